"""Converts weights of other programs into a checkpoint: `msdet import`.

msdet import --config configs/yolov3.yaml --source yolov3.weights --output yolov3.ckpt
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from msdet.config import parse_command_line


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="msdet import",
        description="Converts weights of other programs (darknet .weights, PyTorch .pth and .safetensors, .ckpt of the "
        "old MindSpore model zoo) into a checkpoint with its card. All other flags are configuration keys, such as "
        "--num_classes.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="configuration of the model and its number of classes")
    parser.add_argument("--source", type=Path, required=True, help="file to read")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint to write, ending in .ckpt")
    parser.add_argument("--layout", default="", help="naming scheme of the tensors in the file; detected by default")
    parser.add_argument("--partial", default="", help="backbone: import only the backbone, for --pretrained_backbone")
    parser.add_argument(
        "--container",
        default="",
        help="key of the dictionary of tensors to import (such as state_dict_ema) if a .pth file holds several; by "
        "default the trained weights (state_dict, model, ...), not their averages",
    )
    parser.add_argument("--quiet", action="store_true", help="print only a summary")
    args, keys = parser.parse_known_args(list(argv))
    cfg = parse_command_line(["--config", args.config, *keys], "weights")

    from msdet.importers.importer import import_weights
    from msdet.importers.mapping import report_lines
    from msdet.runtime.start import start_logging

    start_logging(None)
    mapped = import_weights(cfg, args.source, args.output, args.layout, args.partial, args.container)
    lines = report_lines(mapped)
    sys.stdout.write("\n".join(lines[len(mapped.tensors) :] if args.quiet else lines) + "\n")
    sys.stdout.write(f"{args.output} and its card {args.output.with_suffix('.json').name} written\n")
    if getattr(cfg, "quantization_aware", False):
        sys.stdout.write(
            f"It holds the float network: train for int8 with --config {args.config} --pretrained {args.output}\n"
        )
    return 0
