"""Something else to do every few epochs."""

from __future__ import annotations

from collections.abc import Callable

from msdet.training.loop import Hook, Trainer


class AfterEpochs(Hook):
    """Does something every `interval` epochs.

    Args:
        action: what.
        interval: epochs between two.
    """

    def __init__(self, action: Callable[[], None], interval: int) -> None:
        self.action = action
        self.interval = interval

    def after_epoch(self, trainer: Trainer) -> None:
        if trainer.epoch % self.interval == 0:
            self.action()
