"""Milliseconds of a forward pass in four runtimes, side by side: `python -m benchmarks.forward`.

DarkNet53 at 256 px and YOLOv3 at 416 px, one image: this project in a compiled graph, MindSpore as it comes (without
the setting for oneDNN that `src` makes on a processor with AVX-512), PyTorch without that setting, and this project's
ONNX export in onnxruntime. Every side is a process of its own, has the same weights and input, and must give the same
outputs before anything is timed.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.machine import has_avx512, installed
from benchmarks.report import SHARE, SPEEDUP, Goal, Options, Result, Row, plain_table
from benchmarks.workers import Worker, alternate_workers

OURS, STOCK, TORCH, ONNX = "MindSpore, graph", "stock MindSpore", "PyTorch", "ONNX in onnxruntime"
SIDES = {
    OURS: ("mindspore_side", True),
    STOCK: ("mindspore_side", False),
    TORCH: ("torch_side", False),
    ONNX: ("onnxruntime_side", False),
}
# name, network, px
CASES = (("DarkNet53, 256 px, forward", "classifier", 256), ("YOLOv3, 416 px, forward", "yolov3", 416))
# Of a deep network whose kernels round differently; a wrong layer gives about 1.
_TOLERANCE = 1e-3


def measure(options: Options) -> Result:
    """Measures all cases."""
    result = Result()
    if not installed("torch"):
        result.notes.append("PyTorch is not installed (requirements-bench.txt): not compared with it.")
    for what, name, size in CASES:
        arguments = {"name": name, "size": 64 if options.quick else size, "narrow": options.quick}
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            arguments["folder"] = folder
            with Worker("benchmarks.networks:prepare", arguments, capped=True) as worker:
                worker.compute(Path(folder) / "none.npz")
            workers = {
                side: stack.enter_context(Worker(f"benchmarks.networks:{function}", arguments, capped))
                for side, (function, capped) in SIDES.items()
                if side != TORCH or installed("torch")
            }
            outputs = {side: worker.compute(Path(folder) / "outputs.npz") for side, worker in workers.items()}
            difference = check_equal(outputs)
            seconds = alternate_workers(workers, options.count(9), calls=5)
        add_rows(result, what, result.keep(what, seconds, 1000))
        result.notes.append(f"{what}: outputs of all sides equal within {difference:.1e}.")
    return result


def check_equal(outputs: Mapping[str, list[np.ndarray]]) -> float:
    """The largest relative difference between our outputs and those of another side.

    Raises:
        RuntimeError: it is too large: the sides do not compute the same.
    """
    largest = 0.0
    for side, arrays in outputs.items():
        for ours, theirs in zip(outputs[OURS], arrays, strict=True):
            difference = float(np.linalg.norm(ours - theirs) / np.linalg.norm(ours))
            if not difference <= _TOLERANCE:
                raise RuntimeError(f"{side} gives other outputs than {OURS}: relative difference {difference:.1e}")
            largest = max(largest, difference)
    return largest


def add_rows(result: Result, what: str, medians: Mapping[str, float]) -> None:
    """Compares each side with the one that the goals are about."""
    reason = "" if has_avx512() else "does not apply: no AVX-512 here, so oneDNN takes its fast kernels by itself"
    result.compare(what, "ms", medians, OURS, STOCK, [Goal(SPEEDUP, at_least=50, reason=reason)])
    result.compare(what, "ms", medians, OURS, TORCH, [Goal(SHARE, at_most=1.7)])
    result.compare(what, "ms", medians, ONNX, TORCH, [Goal(SHARE, at_most=0.85)])
    if TORCH not in medians:
        result.rows.append(Row(what, "ms", ONNX, medians[ONNX], OURS, medians[OURS]))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="tiny networks")
    args = parser.parse_args()
    result = measure(Options(rounds=args.rounds, quick=args.quick))
    print(plain_table(result.rows))
    print(*result.notes, sep="\n")


if __name__ == "__main__":
    main()
