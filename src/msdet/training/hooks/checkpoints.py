"""The hook that saves checkpoints."""

from __future__ import annotations

import logging
from pathlib import Path

from msdet.checkpoints.state import CheckpointFolder
from msdet.training.loop import Hook, Trainer

log = logging.getLogger(__name__)


class SaveCheckpoints(Hook):
    """Saves a checkpoint every `interval` epochs and at the end of the run, which may be inside an epoch (a stop
    request, or a data error).

    An extra checkpoint outside the interval, saved before an evaluation, is removed once the next one is complete, and
    does not count towards `keep_checkpoint_max`.

    Args:
        checkpoints: folder of the checkpoints.
        interval: number of epochs between two checkpoints.
        is_writer: False on a rank that saves none.
    """

    def __init__(self, checkpoints: CheckpointFolder, interval: int, is_writer: bool = True) -> None:
        self.checkpoints = checkpoints
        self.interval = interval
        self.is_writer = is_writer
        self._saved_step: int | None = None
        self._extra: Path | None = None

    def before_train(self, trainer: Trainer) -> None:
        self._saved_step = trainer.step
        manifest = self.checkpoints.manifest(trainer.epoch, trainer.step)
        # A checkpoint that was named with --resume is kept.
        if trainer.cfg.resume == "auto" and not self._is_due(trainer) and manifest.is_file():
            self._extra = manifest

    def after_epoch(self, trainer: Trainer) -> None:
        if self._is_due(trainer):
            self.save(trainer)

    def _is_due(self, trainer: Trainer) -> bool:
        is_end = trainer.epoch == trainer.cfg.max_epoch
        return trainer.step_in_epoch == 0 and (trainer.epoch % self.interval == 0 or is_end)

    def after_last_step(self, trainer: Trainer) -> None:
        self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Saves a checkpoint now, unless this step is saved already."""
        if self.is_writer and self._saved_step != trainer.step:
            is_extra = not self._is_due(trainer)
            path = self.checkpoints.save(trainer.snapshot(), trainer.card, is_extra, self._extra)
            self._extra = self.checkpoints.manifest(trainer.epoch, trainer.step) if is_extra else None
            self._saved_step = trainer.step
            log.info("saved %s", path)

    def record_scores(self, trainer: Trainer) -> None:
        """Records the scores in the checkpoint of this step, if there is one."""
        manifest = self.checkpoints.manifest(trainer.epoch, trainer.step)
        if self.is_writer and manifest.is_file():
            self.checkpoints.update_progress(manifest, trainer.scores())
