"""Measures implementations in alternation, so that a busy machine affects all of them equally."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from msdet.data.loading.loader import BatchLoader

# Seconds after which a slow implementation is not called again, to limit the total time.
BUDGET = 120.0


def alternate_all(
    sides: Mapping[str, Callable[[], object]], rounds: int, budget: float = BUDGET, warm: bool = True
) -> dict[str, list[float]]:
    """Seconds of each implementation; each is called once per round.

    Args:
        sides: name -> function to call.
        rounds: at least 1.
        budget: seconds of an implementation after which it is skipped in further rounds; the first always counts.
        warm: call each once before, without measuring it.
    """
    if warm:
        for side in sides.values():
            side()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            if times[name] and sum(times[name]) > budget:
                continue
            begin = time.perf_counter()
            side()
            times[name].append(time.perf_counter() - begin)
    return times


def alternate_epochs(
    sides: Mapping[str, Callable[[], object]], loaders: Mapping[str, BatchLoader], rounds: int
) -> dict[str, list[float]]:
    """Seconds of each function and of an epoch of each loader; see `alternate_all`. Closes the loaders."""
    with ExitStack() as stack:
        epochs: dict[str, Callable[[], object]] = {}
        for name, loader in loaders.items():
            stack.enter_context(loader)
            epochs[name] = lambda loader=loader: sum(1 for _ in loader.epoch(0))
        return alternate_all({**sides, **epochs}, rounds)


def alternate(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median seconds of two functions; see `alternate_all`."""
    times = alternate_all({"first": first, "second": second}, rounds)
    return statistics.median(times["first"]), statistics.median(times["second"])
