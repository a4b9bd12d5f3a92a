"""Turns weights of other programs into a checkpoint of this one.

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
        description="Turns weights of other programs (darknet .weights, PyTorch .pth and .safetensors, checkpoints of "
        "MindSpore's old model zoo) into a checkpoint with its card. Other flags are keys of the configuration, such "
        "as --num_classes.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="the model, and its number of classes")
    parser.add_argument("--source", type=Path, required=True, help="the file to read")
    parser.add_argument("--output", type=Path, required=True, help="the checkpoint to write, ending in .ckpt")
    parser.add_argument("--layout", default="", help="how the file names its tensors; found by itself if left out")
    parser.add_argument("--partial", default="", help="backbone: take only that, for --pretrained_backbone")
    parser.add_argument(
        "--container",
        default="",
        help="of a .pth that holds several dictionaries of tensors, the key of the one to take (state_dict_ema); "
        "by default the trained weights (state_dict, model ...), not their averages",
    )
    parser.add_argument("--quiet", action="store_true", help="print the sums only")
    args, keys = parser.parse_known_args(list(argv))
    cfg = parse_command_line(["--config", args.config, *keys], "weights")

    from msdet.importers.importer import import_weights
    from msdet.importers.mapping import describe
    from msdet.runtime.start import start_logging

    start_logging(None)
    lines = describe(import_weights(cfg, args.source, args.output, args.layout, args.partial, args.container))
    sys.stdout.write("\n".join(lines[-2:] if args.quiet else lines) + "\n")
    sys.stdout.write(f"{args.output} and its card {args.output.with_suffix('.json').name} written\n")
    if getattr(cfg, "quantization_aware", False):
        sys.stdout.write(
            f"It holds the float network: train for int8 with --config {args.config} --pretrained {args.output}\n"
        )
    return 0
