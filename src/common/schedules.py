"""Learning-rate schedules in closed form: step -> rate.

All follow the published trainings of the old model zoo, in which the rate is constant within an epoch after the
warm-up, and the epochs of the warm-up count as epochs of the curve. The warm-up itself rises by the step: the
original's cosine one left the rate at 0, which trains nothing.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

from src.errors import UsageError

Schedule = Callable[[int], float]

# cosine_annealing_sample runs on a longer curve and leaves out every other epoch of a stretch of it.
_SAMPLE_EXTRA = 60
_SAMPLE_FIRST, _SAMPLE_LAST = 60, 178


def build_schedule(
    kind: str,
    lr: float,
    steps_per_epoch: int,
    max_epoch: int,
    warmup_epochs: float = 0.0,
    lr_epochs: Sequence[int] = (),
    lr_gamma: float = 0.1,
    eta_min: float = 0.0,
    t_max: int = 0,
) -> Schedule:
    """Makes the function from a step, counted from 0, to its learning rate.

    Args:
        kind: "exponential", "cosine_annealing", "cosine_annealing_V2" or "cosine_annealing_sample".
        lr: rate after the warm-up.
        steps_per_epoch, max_epoch: length of the training.
        warmup_epochs: epochs, or parts of one, of the linear rise: (s + 1) / W * lr at step s of W.
        lr_epochs, lr_gamma: exponential: epochs at which the rate is multiplied by lr_gamma.
        eta_min: cosine: the rate at the end of the curve.
        t_max: cosine_annealing (which takes at least max_epoch) and its V2: epochs of the half period; 0 = max_epoch.
            The rate does not rise again after it.

    Raises:
        UsageError: no such kind, or a number out of its range.
    """
    if steps_per_epoch < 1 or max_epoch < 1:
        raise UsageError(f"a schedule needs steps: {steps_per_epoch} an epoch, {max_epoch} epochs were given")
    numbers = {"lr": lr, "warmup_epochs": warmup_epochs, "lr_gamma": lr_gamma, "eta_min": eta_min, "t_max": t_max}
    for name, value in numbers.items():
        if not 0 <= value < math.inf:
            raise UsageError(f"{name}: a number of at least 0 is needed, got {value}")
    curves = {
        "exponential": lambda: _exponential(lr, lr_epochs, lr_gamma),
        "cosine_annealing": lambda: _cosine(lr, eta_min, max(t_max, max_epoch)),
        "cosine_annealing_V2": lambda: _cosine_v2(lr, eta_min, t_max or max_epoch, max_epoch),
        "cosine_annealing_sample": lambda: _cosine_sample(lr, eta_min, max_epoch),
    }
    if kind not in curves:
        raise UsageError(f"lr_scheduler {kind!r} does not exist: choose {', '.join(curves)}")
    curve = curves[kind]()
    warmup_steps = round(warmup_epochs * steps_per_epoch)

    def rate(step: int) -> float:
        if step < warmup_steps:
            return lr * (step + 1) / warmup_steps
        return curve(step // steps_per_epoch)

    return rate


def _exponential(lr: float, lr_epochs: Sequence[int], gamma: float) -> Schedule:
    milestones = sorted(lr_epochs)
    return lambda epoch: lr * gamma ** bisect_right(milestones, epoch)


def _cosine(lr: float, eta_min: float, period: int) -> Schedule:
    return lambda epoch: eta_min + (lr - eta_min) * (1 + math.cos(math.pi * min(epoch / period, 1))) / 2


def _cosine_v2(lr: float, eta_min: float, period: int, max_epoch: int) -> Schedule:
    """A cosine for two thirds of the training; from the rate reached, a second one that ends with the last epoch."""
    turn = (2 * max_epoch - 1) // 3  # the last epoch that begins within the first two thirds
    first = _cosine(lr, eta_min, period)
    last = _cosine(first(turn), eta_min, max(max_epoch // 3, 1))
    return lambda epoch: first(epoch) if epoch <= turn else last(epoch - turn)


def _cosine_sample(lr: float, eta_min: float, max_epoch: int) -> Schedule:
    """A cosine over max_epoch + 60 epochs of which every other one between 60 and 178 is left out."""
    if max_epoch <= _SAMPLE_LAST - _SAMPLE_EXTRA:
        raise UsageError(
            f"cosine_annealing_sample needs more than {_SAMPLE_LAST - _SAMPLE_EXTRA} epochs, max_epoch is {max_epoch}"
        )
    full = _cosine(lr, eta_min, max_epoch + _SAMPLE_EXTRA)
    left_out = set(range(_SAMPLE_FIRST, _SAMPLE_LAST + 1, 2))
    kept = [epoch for epoch in range(max_epoch + _SAMPLE_EXTRA) if epoch not in left_out]
    return lambda epoch: full(kept[min(epoch, len(kept) - 1)])
