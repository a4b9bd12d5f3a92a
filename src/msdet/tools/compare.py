"""Scores and times the forms of one detector in one table: what int8 costs and what it brings.

    msdet compare --config CONFIG --data_dir DIR --float FLOAT.ckpt [--quant QUANT.ckpt]
        [--calibration FOLDER] [--rounds 20] [--output FOLDER] [keys of eval.py]

Forms: the float checkpoint in MindSpore and as ONNX; with --quant the checkpoint of a quantization-aware training,
fake-quantized in MindSpore and as int8 ONNX; with --calibration int8 ONNX made from the float checkpoint and pictures.
All take uint8 pictures, one a call, and give boxes and scores. They take turns when they are timed.
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
from msdet.runtime.start import start, start_logging
from msdet.session.datasets import open_dataset

if TYPE_CHECKING:
    from msdet.config import Config

log = logging.getLogger(__name__)

FLOAT, FLOAT_ONNX = "float, MindSpore", "float, ONNX"
FAKE, INT8_ONNX = "fake-quantized, MindSpore", "int8 (trained), ONNX"
PTQ_ONNX = "int8 (calibrated), ONNX"


@dataclass(frozen=True)
class FormResult:
    """One line of the table.

    Attributes:
        form: which.
        ap, ap50: COCO's, 0..1.
        megabytes: of the file.
        milliseconds: median of a call with one picture.
    """

    form: str
    ap: float
    ap50: float
    megabytes: float
    milliseconds: float


def compare(cfg: Config, float_checkpoint: str, quant_checkpoint: str, rounds: int, folder: Path) -> list[FormResult]:
    """Exports, scores and times all forms.

    Args:
        cfg: of the model; float or quantization-aware.
        float_checkpoint, quant_checkpoint: the two; the second may be empty.
        rounds: turns of each form.
        folder: gets the exported files and the detections.

    Raises:
        UserError: a file is missing or does not fit.
        UsageError: the model is no detector.
    """
    if task_of(cfg) != "detect":
        raise UsageError(f"{cfg.model} is no detector: eval.py tells the accuracy of a classifier")
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
        runners = {form: stack.enter_context(open_runner(path, own)) for form, (path, own) in files.items()}
        scores = {form: _score(runner, folder / f"{i}.json") for i, (form, runner) in enumerate(runners.items())}
        times = _time(runners, rounds)
    return [
        FormResult(form, *scores[form], files[form][0].stat().st_size / 1e6, statistics.median(times[form]) * 1000)
        for form in files
    ]


def _exported(cfg: Config, checkpoint: str, target: Path, quantize: str) -> Path:
    wanted = {"file_format": "ONNX", "file_name": str(target), "keep_preprocess": True, "keep_detect": True}
    export(cfg.replace(pretrained=checkpoint, quantize=quantize, export_batch_size=1, **wanted))
    return target


def _score(runner: Runner, detections: Path) -> tuple[float, float]:
    dataset, runner.cfg = open_dataset(runner.cfg.replace(eval_batch_size=1), "val")
    start(runner.cfg)
    with runner_evaluator(runner, dataset) as evaluator:
        ap, ap50 = evaluator.task.numbers(evaluator.task.score(evaluator.collect(detections)))
    return ap, ap50


def _time(runners: Mapping[str, Runner], rounds: int) -> dict[str, list[float]]:
    images, valid = sample_images(1, next(iter(runners.values())).size)
    times: dict[str, list[float]] = {form: [] for form in runners}
    for turn in range(rounds + 1):
        for form, runner in runners.items():
            arrays = runner.spec.inputs(images, valid, None)
            begin = time.perf_counter()
            runner.forward(arrays)
            if turn:  # the first compiles and allocates
                times[form].append(time.perf_counter() - begin)
    return times


def table(results: Sequence[FormResult]) -> str:
    """The results as a Markdown table; size and speed also as ratios to the float ONNX file."""
    base = next(result for result in results if result.form == FLOAT_ONNX)
    lines = ["| form | AP | AP50 | file, MB | of float ONNX | ms a picture | times as fast as float ONNX |"]
    lines.append("|---|---|---|---|---|---|---|")
    lines += [
        f"| {r.form} | {r.ap:.4f} | {r.ap50:.4f} | {r.megabytes:.2f} | {r.megabytes / base.megabytes:.3f} "
        f"| {r.milliseconds:.1f} | {base.milliseconds / r.milliseconds:.2f} |"
        for r in results
    ]
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        prog="msdet compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--float", required=True, metavar="FILE", help="float checkpoint")
    parser.add_argument("--quant", default="", metavar="FILE", help="checkpoint of a quantization-aware training")
    parser.add_argument("--rounds", type=int, default=20, help="turns of each form")
    parser.add_argument("--output", type=Path, help="folder of the exported files and compare.json; else none is kept")
    args, rest = parser.parse_known_args(argv)
    if args.rounds < 1:
        raise UsageError(f"--rounds is {args.rounds}; it takes a whole number, at least 1")
    cfg = parse_command_line(rest, "compare")
    start_logging(None)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.output or Path(temporary)
        results = compare(cfg, args.float, args.quant, args.rounds, folder)
        if args.output:
            write_json(folder / "compare.json", {"forms": [asdict(result) for result in results]})
    processor = "with" if has_vnni() else "without"
    sys.stdout.write(f"{table(results)}\n{len(results)} forms took turns on a processor {processor} VNNI.\n")
    return 0
