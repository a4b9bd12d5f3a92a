"""Compares accuracy, size and speed of the fp32 and int8 variants of a detector in one table.

    msdet compare --config CONFIG --data_dir DIR --float FLOAT.ckpt [--quant QUANT.ckpt]
        [--calibration FOLDER] [--rounds 20] [--output FOLDER] [keys of eval.py]

Variants: the float checkpoint in MindSpore and as ONNX; with --quant a checkpoint of quantization-aware training, fake-
quantized in MindSpore and as int8 ONNX; with --calibration int8 ONNX calibrated with images. All take one uint8 image
per call and return boxes and scores. They are timed alternately.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from msdet.config import parse_command_line
from msdet.errors import UsageError
from msdet.export.command import export
from msdet.export.onnx_session import has_vnni
from msdet.export.sample_images import sample_images
from msdet.files import write_json
from msdet.inference.open_runner import open_runner
from msdet.inference.runners import Runner
from msdet.inference.score import runner_evaluator
from msdet.models.recipe import task_of
from msdet.runtime.start import start_logging
from msdet.session.session import Session

if TYPE_CHECKING:
    from msdet.config import Config

log = logging.getLogger(__name__)

FLOAT, FLOAT_ONNX = "float, MindSpore", "float, ONNX"
FAKE, INT8_ONNX = "fake-quantized, MindSpore", "int8 (trained), ONNX"
PTQ_ONNX = "int8 (calibrated), ONNX"


@dataclass(frozen=True)
class VariantResult:
    """One row of the table.

    Attributes:
        variant: name of the variant.
        ap, ap50: of COCO, 0..1.
        megabytes: file size.
        milliseconds: median time of a call with one image.
    """

    variant: str
    ap: float
    ap50: float
    megabytes: float
    milliseconds: float


def compare(
    cfg: Config, float_checkpoint: str, quant_checkpoint: str, rounds: int, folder: Path
) -> list[VariantResult]:
    """Exports, scores and times all variants.

    Args:
        cfg: configuration of the model; float or quantization-aware.
        float_checkpoint, quant_checkpoint: the checkpoints; the second may be empty.
        rounds: turns of each form.
        folder: for the exported files and the detections.

    Raises:
        UserError: a file is missing or does not match.
        UsageError: the model is not a detector.
    """
    if task_of(cfg) != "detect":
        raise UsageError(f"{cfg.model} is not a detector: eval.py reports the accuracy of a classifier")
    folder.mkdir(parents=True, exist_ok=True)
    plain = cfg.replace(quantization_aware=False) if cfg.quantization_aware else cfg
    files = {FLOAT: (Path(float_checkpoint), plain)}
    files[FLOAT_ONNX] = (_exported(plain, float_checkpoint, folder / "float.onnx", "auto"), plain)
    if quant_checkpoint:
        files[FAKE] = (Path(quant_checkpoint), cfg)
        files[INT8_ONNX] = (_exported(cfg, quant_checkpoint, folder / "int8.onnx", "int8"), cfg)
    if cfg.calibration:
        files[PTQ_ONNX] = (_exported(plain, float_checkpoint, folder / "ptq.onnx", "ptq"), plain)
    with ExitStack() as stack:
        runners = {variant: stack.enter_context(open_runner(path, own)) for variant, (path, own) in files.items()}
        scores = {variant: _score(runner, folder / f"{i}.json") for i, (variant, runner) in enumerate(runners.items())}
        times = _time(runners, rounds)
    return [
        VariantResult(variant, *scores[variant], path.stat().st_size / 1e6, statistics.median(times[variant]) * 1000)
        for variant, (path, _) in files.items()
    ]


def _exported(cfg: Config, checkpoint: str, target: Path, quantize: str) -> Path:
    wanted = {"file_format": "ONNX", "file_name": str(target), "keep_preprocess": True, "keep_detect": True}
    export(cfg.replace(pretrained=checkpoint, quantize=quantize, export_batch_size=1, **wanted))
    return target


def _score(runner: Runner, detections: Path) -> tuple[float, float]:
    runner.cfg = runner.cfg.replace(eval_batch_size=1)
    with runner_evaluator(Session(runner.cfg), runner) as evaluator:
        ap, ap50 = evaluator.task.headline_scores(evaluator.task.score(evaluator.collect(detections)))
    return ap, ap50


def _time(runners: Mapping[str, Runner], rounds: int) -> dict[str, list[float]]:
    images, valid = sample_images(1, next(iter(runners.values())).size)
    times: dict[str, list[float]] = {variant: [] for variant in runners}
    for turn in range(rounds + 1):
        for variant, runner in runners.items():
            arrays = runner.spec.inputs(images, valid, None)
            begin = time.perf_counter()
            runner.forward(arrays)
            if turn:  # the first call compiles and allocates
                times[variant].append(time.perf_counter() - begin)
    return times


def table(results: Sequence[VariantResult]) -> str:
    """The results as a Markdown table; size and speed also relative to the float ONNX file."""
    base = next(result for result in results if result.variant == FLOAT_ONNX)
    lines = ["| variant | AP | AP50 | file, MB | relative to float ONNX | ms per image | speedup over float ONNX |"]
    lines.append("|---|---|---|---|---|---|---|")
    lines += [
        f"| {r.variant} | {r.ap:.4f} | {r.ap50:.4f} | {r.megabytes:.2f} | {r.megabytes / base.megabytes:.3f} "
        f"| {r.milliseconds:.1f} | {base.milliseconds / r.milliseconds:.2f} |"
        for r in results
    ]
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Runs the comparison and prints the table."""
    parser = argparse.ArgumentParser(
        prog="msdet compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--float", required=True, metavar="FILE", help="float checkpoint")
    parser.add_argument("--quant", default="", metavar="FILE", help="checkpoint of quantization-aware training")
    parser.add_argument("--rounds", type=int, default=20, help="timed calls of each variant")
    parser.add_argument(
        "--output", type=Path, help="folder for the exported files and compare.json (default: not kept)"
    )
    args, rest = parser.parse_known_args(argv)
    if args.rounds < 1:
        raise UsageError(f"--rounds is {args.rounds}; it takes an integer of at least 1")
    cfg = parse_command_line(rest, "compare")
    start_logging(None)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.output or Path(temporary)
        results = compare(cfg, args.float, args.quant, args.rounds, folder)
        if args.output:
            write_json(folder / "compare.json", {"variants": [asdict(result) for result in results]})
    processor = "with" if has_vnni() else "without"
    sys.stdout.write(
        f"{table(results)}\n{len(results)} variants were timed alternately on a processor {processor} VNNI.\n"
    )
    return 0
