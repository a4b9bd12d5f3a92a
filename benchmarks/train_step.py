"""Milliseconds of a training step against PyTorch, side by side: `python -m benchmarks.train_step`.

DarkNet53 at 224 px, batch 4, classification: normalisation of uint8 pictures, forward, cross-entropy, backward,
SGD with
momentum and weight decay; float32. Both sides begin with the same weights and must give the same first three losses.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.machine import installed
from benchmarks.report import Options, Result, Row, plain_table
from benchmarks.workers import Worker, alternate_workers

OURS, TORCH = "MindSpore, graph", "PyTorch"
SIDES = {OURS: ("mindspore_training", True), TORCH: ("torch_training", False)}
WHAT = "DarkNet53, 224 px, batch 4, training step"
_STEPS, _TOLERANCE = 3, 1e-2


def measure(options: Options) -> Result:
    """Measures the step."""
    result = Result()
    size = 64 if options.quick else 224
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        common = {"size": size, "narrow": options.quick, "folder": folder}
        with Worker("benchmarks.networks:prepare", {"name": "classifier", **common}, capped=True) as worker:
            worker.compute(Path(folder) / "none.npz")
        workers = {
            side: stack.enter_context(Worker(f"benchmarks.networks:{function}", {"batch": 4, **common}, capped))
            for side, (function, capped) in SIDES.items()
            if side != TORCH or installed("torch")
        }
        file = Path(folder) / "loss.npz"
        losses = {side: [float(w.compute(file)[0]) for _ in range(_STEPS)] for side, w in workers.items()}
        seconds = alternate_workers(workers, options.count(7), calls=2)
    medians = result.keep(WHAT, seconds, 1000)
    if TORCH not in workers:
        result.notes.append("PyTorch is not installed (requirements-bench.txt): not compared with it.")
        result.rows.append(Row(WHAT, "ms", OURS, medians[OURS]))
        return result
    difference = np.max(np.abs(np.divide(losses[OURS], losses[TORCH]) - 1))
    if not difference <= _TOLERANCE:
        raise RuntimeError(f"the first losses differ: {losses}")
    result.compare(WHAT, "ms", medians, OURS, TORCH)
    result.notes.append(f"{WHAT}: the first {_STEPS} losses equal within {difference:.1e}.")
    return result


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="a tiny network")
    args = parser.parse_args()
    result = measure(Options(rounds=args.rounds, quick=args.quick))
    print(plain_table(result.rows))
    print(*result.notes, sep="\n")


if __name__ == "__main__":
    main()
