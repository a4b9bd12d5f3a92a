"""Keeps a step that was not finite on disk, so that it can be run again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msdet.errors import UserError
from msdet.training.loop import Hook, Trainer
from msdet.training.replay.failed_step import save_failed_step

if TYPE_CHECKING:
    from msdet.data.loading.batch import ImageBatch


class KeepFailedStep(Hook):
    """Writes the step to `debug/step_S/` in the folder of the run, from where `msdet replay` runs it again."""

    def on_failure(self, trainer: Trainer, batch: ImageBatch, losses: Sequence[float]) -> str:
        try:
            return f"run it again with: msdet replay {save_failed_step(trainer, batch, losses)}"
        except UserError as error:
            return f"the step could not be kept: {error}"
