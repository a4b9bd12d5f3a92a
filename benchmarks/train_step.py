"""Milliseconds of a training step against PyTorch: `python benchmarks/run.py train_step`.

DarkNet53 at 224 px, batch 4, classification: normalization of uint8 images, forward, cross-entropy, backward,
SGD with momentum and weight decay; float32. Both start from the same weights and must give the same first three
losses.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.networks import prepared
from benchmarks.report import NO_TORCH, Options, Result, Row
from benchmarks.workers import Side, alternate_workers, open_workers

OURS, TORCH = "MindSpore, graph", "PyTorch"
SIDES = {
    OURS: Side("benchmarks.networks:mindspore_training", capped=True),
    TORCH: Side("benchmarks.networks:torch_training", needs_torch=True),
}
WHAT = "DarkNet53, 224 px, batch 4, training step"
# Number of steps, and relative tolerances of the losses before and after the first update.
_STEPS, _FIRST_TOLERANCE, _TOLERANCE = 3, 1e-5, 1e-2


def measure(options: Options) -> Result:
    """Measures the step."""
    result = Result()
    with (
        prepared("classifier", 64 if options.quick else 224, options.quick) as arguments,
        open_workers(SIDES, {**arguments, "batch": 4}, options.torch_python) as workers,
    ):
        file = Path(arguments["folder"]) / "loss.npz"
        losses = {side: [float(w.compute(file)[0]) for _ in range(_STEPS)] for side, w in workers.items()}
        seconds = alternate_workers(workers, options.count(7), calls=2)
    medians = result.keep(WHAT, seconds, 1000)
    if TORCH not in workers:
        result.notes.append(NO_TORCH)
        result.rows.append(Row(WHAT, "ms", OURS, medians[OURS]))
        return result
    first, *later = np.abs(np.divide(losses[OURS], losses[TORCH]) - 1)
    if not (first <= _FIRST_TOLERANCE and max(later) <= _TOLERANCE):
        raise RuntimeError(f"the losses differ: {losses}")
    result.compare(WHAT, "ms", medians, OURS, TORCH)
    result.notes.append(
        f"{WHAT}: the first losses of both are equal within {first:.0e}, those after one and two steps, "
        f"{losses[OURS][1]:.2g} and {losses[OURS][2]:.2g}, within {max(later):.0e}."
    )
    return result
