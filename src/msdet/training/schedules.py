"""Learning-rate schedules in closed form: (epoch, step of the epoch) -> rate.

A rate depends on the epoch and the fraction of it that is done, not on the number of steps: a training that is resumed
with another batch size or number of processes follows the same curve.

All but `cosine_per_step` follow the published trainings of the old model zoo: after the warm-up the rate is constant
within an epoch, and warm-up epochs count as epochs of the curve. The warm-up rises with each step; that of the original
cosine schedules left the rate at 0.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

from msdet.errors import UsageError

# (finished epochs, finished steps of the current epoch) -> learning rate of the next step.
Schedule = Callable[[int, int], float]
# Finished epochs, possibly fractional -> rate after the warm-up.
_Curve = Callable[[float], float]

# cosine_annealing_sample uses a longer curve and skips every other epoch of a part of it.
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
    lr_warmup_init: float = 0.0,
) -> Schedule:
    """Builds the function from finished epochs and steps of the current epoch to the learning rate of the next step.

    Args:
        kind: "exponential", "cosine_annealing", "cosine_annealing_V2", "cosine_annealing_sample" or "cosine_per_step".
        lr: rate after the warm-up; above 0.
        steps_per_epoch, max_epoch: length of the training.
        warmup_epochs: length of the linear warm-up, possibly fractional: (s + 1) / W * lr at step s of W.
        lr_epochs, lr_gamma: exponential: epochs at which the rate is multiplied by lr_gamma.
        eta_min: cosine: the rate at the end of the curve.
        t_max: cosine_annealing (at least max_epoch) and its V2: half period in epochs; 0 = max_epoch. The rate does not
            rise again after it.
        lr_warmup_init: if above 0, the rate of the first warm-up step: init + s / W * (lr - init) at step s of W.

    Raises:
        UsageError: unknown kind, or a value out of range.
    """
    if steps_per_epoch < 1 or max_epoch < 1:
        raise UsageError(f"a schedule needs steps: got {max_epoch} epochs of {steps_per_epoch} steps")
    non_negative = {"warmup_epochs": warmup_epochs, "lr_gamma": lr_gamma, "eta_min": eta_min, "t_max": t_max}
    for name, value in {**non_negative, "lr_warmup_init": lr_warmup_init}.items():
        if not 0 <= value < math.inf:
            raise UsageError(f"{name} must be a number of at least 0, got {value}")
    if not 0 < lr < math.inf:
        raise UsageError(f"lr must be a number above 0, got {lr}")
    curves = {
        "exponential": lambda: _exponential(lr, lr_epochs, lr_gamma),
        "cosine_annealing": lambda: _cosine(lr, eta_min, max(t_max, max_epoch)),
        "cosine_annealing_V2": lambda: _cosine_v2(lr, eta_min, t_max or max_epoch, max_epoch),
        "cosine_annealing_sample": lambda: _cosine_sample(lr, eta_min, max_epoch),
        "cosine_per_step": lambda: _cosine_per_step(lr, eta_min, max_epoch - warmup_epochs),
    }
    if kind not in curves:
        raise UsageError(f"lr_scheduler {kind!r} does not exist: choose {', '.join(curves)}")
    curve = curves[kind]()
    warmup_steps = round(warmup_epochs * steps_per_epoch)

    def rate(epoch: int, step: int) -> float:
        done = epoch * steps_per_epoch + step
        if done < warmup_steps:
            if lr_warmup_init > 0:
                return lr_warmup_init + (lr - lr_warmup_init) * done / warmup_steps
            return lr * (done + 1) / warmup_steps
        return curve(done / steps_per_epoch if kind == "cosine_per_step" else epoch)

    return rate


def schedule_warnings(
    kind: str,
    lr: float,
    max_epoch: int,
    warmup_epochs: float,
    lr_epochs: Sequence[int],
    t_max: int,
    lr_warmup_init: float,
) -> Iterator[str]:
    """Yields warnings, each with its remedy: parts of a schedule that the training does not reach, a falling warm-up.

    Args: as for `build_schedule`.
    """
    if warmup_epochs > 0 and lr_warmup_init > lr:
        yield (
            f"lr_warmup_init {lr_warmup_init:g} is above lr {lr:g}: the rate falls during the warm-up. "
            "Set --lr_warmup_init below lr, or to 0"
        )
    if warmup_epochs >= max_epoch:
        yield (
            f"warmup_epochs {warmup_epochs:g} is not shorter than max_epoch {max_epoch}: the rate only rises. "
            "Set --warmup_epochs lower"
        )
    if kind == "cosine_annealing" and t_max > max_epoch:
        left = 50 * (1 + math.cos(math.pi * max_epoch / t_max))
        yield (
            f"t_max {t_max} is longer than max_epoch {max_epoch}: the rate ends at {left:.0f} % of lr. "
            f"Set --t_max {max_epoch} to let it fall to its end"
        )
    missed = sorted(epoch for epoch in lr_epochs if epoch >= max_epoch)
    if kind == "exponential" and missed:
        yield (
            f"lr_epochs {', '.join(map(str, missed))} lie beyond max_epoch {max_epoch}: the rate "
            f"{'never falls' if len(missed) == len(lr_epochs) else 'does not fall there'}. Set --lr_epochs lower"
        )
    last = max(lr_epochs, default=0)
    if kind == "exponential" and 0 < last < max_epoch / 2:
        later = ",".join(str(round(epoch * 0.9 * max_epoch / last)) for epoch in sorted(lr_epochs))
        yield (
            f"lr_epochs end at {last} of max_epoch {max_epoch}: the other {max_epoch - last} epochs have the lowest "
            f"rate. Set --lr_epochs {later} to let it fall later"
        )


def _exponential(lr: float, lr_epochs: Sequence[int], gamma: float) -> _Curve:
    milestones = sorted(lr_epochs)
    return lambda epoch: lr * gamma ** bisect_right(milestones, epoch)


def _cosine(lr: float, eta_min: float, period: float) -> _Curve:
    return lambda epoch: eta_min + (lr - eta_min) * (1 + math.cos(math.pi * min(epoch / period, 1))) / 2


def _cosine_v2(lr: float, eta_min: float, period: int, max_epoch: int) -> _Curve:
    """A cosine for two thirds of the training, then a second one from the rate reached to the last epoch."""
    turn = (2 * max_epoch - 1) // 3  # the last epoch that starts within the first two thirds
    first = _cosine(lr, eta_min, period)
    last = _cosine(first(turn), eta_min, max(max_epoch // 3, 1))
    return lambda epoch: first(epoch) if epoch <= turn else last(epoch - turn)


def _cosine_sample(lr: float, eta_min: float, max_epoch: int) -> _Curve:
    """A cosine over max_epoch + 60 epochs of which every other one between 60 and 178 is skipped."""
    if max_epoch <= _SAMPLE_LAST - _SAMPLE_EXTRA:
        raise UsageError(
            f"cosine_annealing_sample needs more than {_SAMPLE_LAST - _SAMPLE_EXTRA} epochs, max_epoch is {max_epoch}"
        )
    full = _cosine(lr, eta_min, max_epoch + _SAMPLE_EXTRA)
    skipped = set(range(_SAMPLE_FIRST, _SAMPLE_LAST + 1, 2))
    kept = [epoch for epoch in range(max_epoch + _SAMPLE_EXTRA) if epoch not in skipped]
    return lambda epoch: full(kept[min(int(epoch), len(kept) - 1)])


def _cosine_per_step(lr: float, eta_min: float, period: float) -> _Curve:
    """The schedule of google/automl. Its half period is max_epoch - warmup_epochs but starts at epoch 0, so it ends
    warmup_epochs before the training does, after which the rate rises again slightly."""
    period = max(period, 1)
    return lambda epochs: eta_min + (lr - eta_min) * (1 + math.cos(math.pi * epochs / period)) / 2
