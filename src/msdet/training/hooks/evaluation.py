"""The hook that evaluates during training and saves the best weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msdet.checkpoints.weights_file import save_weights
from msdet.training.hooks.checkpoints import SaveCheckpoints
from msdet.training.loop import Hook, Trainer

log = logging.getLogger(__name__)


class Evaluate(Hook):
    """Evaluates every `interval` epochs from `start_epoch` on and after the last epoch, and saves the best weights.

    A checkpoint is saved first, so that a failing evaluation costs no trained epoch. An interrupted evaluation is
    repeated when the run resumes.

    Args:
        evaluate: weights by name -> scores by name, each in 0..1; the first score selects the best weights. None if it
            was stopped.
        saver: saves the checkpoint; precedes this hook in the list.
        start_epoch: first epoch to evaluate, from 1.
        interval: number of epochs between two evaluations.
        best_path: file of the best weights; None saves none.
        on_scored: functions called with the scores of each evaluation.
    """

    def __init__(
        self,
        evaluate: Callable[[dict], Mapping[str, float] | None],
        saver: SaveCheckpoints,
        start_epoch: int,
        interval: int,
        best_path: Path | None,
        on_scored: Sequence[Callable[[Trainer, Mapping[str, float]], None]],
    ) -> None:
        self.evaluate = evaluate
        self.saver = saver
        self.start_epoch = start_epoch
        self.interval = interval
        self.best_path = best_path
        self.on_scored = on_scored

    def before_train(self, trainer: Trainer) -> None:
        if trainer.step_in_epoch == 0 and trainer.scored_epoch < trainer.epoch:
            self.after_epoch(trainer)

    def after_epoch(self, trainer: Trainer) -> None:
        last = trainer.epoch == trainer.cfg.max_epoch
        due = trainer.epoch >= self.start_epoch and (trainer.epoch - self.start_epoch) % self.interval == 0
        if trainer.should_stop:
            return
        if due or last:
            self._score(trainer)
        else:
            trainer.scored_epoch = trainer.epoch

    def _score(self, trainer: Trainer) -> None:
        self.saver.save(trainer)
        weights = trainer.weights_to_score()
        scores = self.evaluate(weights)
        if scores is None:
            log.warning("the evaluation after epoch %d was stopped", trainer.epoch)
            return
        trainer.scored_epoch = trainer.epoch
        log.info("epoch: %d, %s", trainer.epoch, ", ".join(f"{name}: {score:.4f}" for name, score in scores.items()))
        main = next(iter(scores.values()))
        if trainer.best_score is None or main > trainer.best_score:
            trainer.best_score, trainer.best_epoch = main, trainer.epoch
            if self.best_path is not None:
                save_weights(self.best_path, weights, {**trainer.card, "epoch": trainer.epoch, **scores})
        for callback in self.on_scored:
            callback(trainer, scores)
        self.saver.record_scores(trainer)
