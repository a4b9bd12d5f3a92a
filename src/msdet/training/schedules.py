"""Learning-rate schedules in closed form: (epoch, step of the epoch) -> rate.

A rate depends on how much of which epoch is done, not on how many steps were: a training that is resumed with another
batch size or number of processes follows the same curve.

All but `cosine_per_step` follow the published trainings of the old model zoo, in which the rate is constant within an
epoch after the warm-up, and the epochs of the warm-up count as epochs of the curve. The warm-up itself rises by the
step: the original's cosine one left the rate at 0, which trains nothing.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

from msdet.errors import UsageError

# (finished epochs, finished steps of the running one) -> learning rate of the next step.
Schedule = Callable[[int, int], float]
# Finished epochs, or epochs and a fraction -> rate after the warm-up.
_Curve = Callable[[float], float]

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
    lr_warmup_init: float = 0.0,
) -> Schedule:
    """Makes the function from finished epochs and steps of the running epoch to the learning rate of the next step.

    Args:
        kind: "exponential", "cosine_annealing", "cosine_annealing_V2", "cosine_annealing_sample" or "cosine_per_step".
        lr: rate after the warm-up; above 0.
        steps_per_epoch, max_epoch: length of the training.
        warmup_epochs: epochs, or parts of one, of the linear rise: (s + 1) / W * lr at step s of W.
        lr_epochs, lr_gamma: exponential: epochs at which the rate is multiplied by lr_gamma.
        eta_min: cosine: the rate at the end of the curve.
        t_max: cosine_annealing (which takes at least max_epoch) and its V2: epochs of the half period; 0 = max_epoch.
            The rate does not rise again after it.
        lr_warmup_init: rate of the first step of a warm-up, if above 0: init + s / W * (lr - init) at step s of W.

    Raises:
        UsageError: no such kind, or a number out of its range.
    """
    if steps_per_epoch < 1 or max_epoch < 1:
        raise UsageError(f"a schedule needs steps: {steps_per_epoch} an epoch, {max_epoch} epochs were given")
    numbers = {"warmup_epochs": warmup_epochs, "lr_gamma": lr_gamma, "eta_min": eta_min, "t_max": t_max}
    for name, value in {**numbers, "lr_warmup_init": lr_warmup_init}.items():
        if not 0 <= value < math.inf:
            raise UsageError(f"{name}: a number of at least 0 is needed, got {value}")
    if not 0 < lr < math.inf:
        raise UsageError(f"lr: a number above 0 is needed, got {lr}")
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
    """What of a schedule a training does not reach, and a warm-up that falls: a sentence each, with the remedy.

    Args: as those of `build_schedule`.
    """
    if warmup_epochs > 0 and lr_warmup_init > lr:
        yield (
            f"lr_warmup_init {lr_warmup_init:g} is above lr {lr:g}: the rate falls in the warm-up. "
            "Set --lr_warmup_init to a part of lr, or to 0"
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
    """A cosine for two thirds of the training; from the rate reached, a second one that ends with the last epoch."""
    turn = (2 * max_epoch - 1) // 3  # the last epoch that begins within the first two thirds
    first = _cosine(lr, eta_min, period)
    last = _cosine(first(turn), eta_min, max(max_epoch // 3, 1))
    return lambda epoch: first(epoch) if epoch <= turn else last(epoch - turn)


def _cosine_sample(lr: float, eta_min: float, max_epoch: int) -> _Curve:
    """A cosine over max_epoch + 60 epochs of which every other one between 60 and 178 is left out."""
    if max_epoch <= _SAMPLE_LAST - _SAMPLE_EXTRA:
        raise UsageError(
            f"cosine_annealing_sample needs more than {_SAMPLE_LAST - _SAMPLE_EXTRA} epochs, max_epoch is {max_epoch}"
        )
    full = _cosine(lr, eta_min, max_epoch + _SAMPLE_EXTRA)
    left_out = set(range(_SAMPLE_FIRST, _SAMPLE_LAST + 1, 2))
    kept = [epoch for epoch in range(max_epoch + _SAMPLE_EXTRA) if epoch not in left_out]
    return lambda epoch: full(kept[min(int(epoch), len(kept) - 1)])


def _cosine_per_step(lr: float, eta_min: float, period: float) -> _Curve:
    """google/automl's: a half period of all epochs but those of the warm-up, which are counted in: it ends as many
    epochs before the training does, after which the rate rises again by next to nothing."""
    period = max(period, 1)
    return lambda epochs: eta_min + (lr - eta_min) * (1 + math.cos(math.pi * epochs / period)) / 2
