"""A hook that calls a function every few epochs."""

from __future__ import annotations

from collections.abc import Callable

from msdet.training.loop import Hook, Trainer


class EveryEpochs(Hook):
    """Calls a function after every `interval` epochs.

    Args:
        action: the function.
        interval: number of epochs between two calls.
    """

    def __init__(self, action: Callable[[], None], interval: int) -> None:
        self.action = action
        self.interval = interval

    def after_epoch(self, trainer: Trainer) -> None:
        if trainer.epoch % self.interval == 0:
            self.action()
