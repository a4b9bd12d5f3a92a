"""Milliseconds of a forward pass in four runtimes: `python benchmarks/run.py forward`.

DarkNet53 at 256 px and YOLOv3 at 416 px, one image: this project in a compiled graph, stock MindSpore (without
the oneDNN setting that the package makes on a processor with AVX-512), PyTorch without that setting, and this project's
ONNX export in onnxruntime. Each runs in a process of its own with the same weights and input, and must give the same
outputs before anything is timed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.machine import has_avx512
from benchmarks.networks import prepared
from benchmarks.report import NO_TORCH, SHARE, SPEEDUP, Goal, Options, Result, Row
from benchmarks.workers import Side, alternate_workers, open_workers

OURS, STOCK, TORCH, ONNX = "MindSpore, graph", "stock MindSpore", "PyTorch", "ONNX in onnxruntime"
SIDES = {
    OURS: Side("benchmarks.networks:mindspore_side", capped=True),
    STOCK: Side("benchmarks.networks:mindspore_side"),
    TORCH: Side("benchmarks.networks:torch_side", needs_torch=True),
    ONNX: Side("benchmarks.networks:onnxruntime_side"),
}
# name, network, px
CASES = (("DarkNet53, 256 px, forward", "classifier", 256), ("YOLOv3, 416 px, forward", "yolov3", 416))
# Relative; allows for different rounding in a deep network. A wrong layer gives about 1.
_TOLERANCE = 1e-3


def measure(options: Options) -> Result:
    """Measures all cases."""
    result = Result()
    for what, name, size in CASES:
        with (
            prepared(name, 64 if options.quick else size, options.quick) as arguments,
            open_workers(SIDES, arguments, options.torch_python) as workers,
        ):
            file = Path(arguments["folder"]) / "outputs.npz"
            difference = check_equal({side: worker.compute(file) for side, worker in workers.items()})
            seconds = alternate_workers(workers, options.count(9), calls=5)
        add_rows(result, what, result.keep(what, seconds, 1000))
        result.notes.append(f"{what}: all outputs equal within {difference:.1e}.")
    if TORCH not in workers:
        result.notes.append(NO_TORCH)
    return result


def check_equal(outputs: Mapping[str, list[np.ndarray]]) -> float:
    """The largest relative difference between our outputs and the others.

    Raises:
        RuntimeError: it is too large.
    """
    largest = 0.0
    for side, arrays in outputs.items():
        for ours, theirs in zip(outputs[OURS], arrays, strict=True):
            difference = float(np.linalg.norm(ours - theirs) / np.linalg.norm(ours))
            if not difference <= _TOLERANCE:
                raise RuntimeError(f"the outputs of {side} and {OURS} differ: relative difference {difference:.1e}")
            largest = max(largest, difference)
    return largest


def add_rows(result: Result, what: str, medians: Mapping[str, float]) -> None:
    """Adds the comparisons that have goals."""
    reason = "" if has_avx512() else "not applicable: without AVX-512 stock MindSpore uses the fast kernels too"
    result.compare(what, "ms", medians, OURS, STOCK, [Goal(SPEEDUP, at_least=50, reason=reason)])
    result.compare(what, "ms", medians, OURS, TORCH, [Goal(SHARE, at_most=1.7)])
    result.compare(what, "ms", medians, ONNX, TORCH, [Goal(SHARE, at_most=0.85)])
    if TORCH not in medians:
        result.rows.append(Row(what, "ms", ONNX, medians[ONNX], OURS, medians[OURS]))
