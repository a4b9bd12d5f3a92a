"""The hook that saves a non-finite training step, so that it can be replayed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msdet.errors import UserError
from msdet.training.loop import Hook, Trainer
from msdet.training.replay.failed_step import save_failed_step

if TYPE_CHECKING:
    from msdet.data.loading.batch import ImageBatch


class KeepFailedStep(Hook):
    """Saves the step to `debug/step_S/` in the run folder, for `msdet replay`."""

    def on_failure(self, trainer: Trainer, batch: ImageBatch, losses: Sequence[float]) -> str:
        try:
            return f"replay the step with: msdet replay {save_failed_step(trainer, batch, losses)}"
        except UserError as error:
            return f"the step could not be saved: {error}"
