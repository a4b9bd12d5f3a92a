"""The training loop and its hooks."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msdet.checkpoints.state import Snapshot
from msdet.checkpoints.weights_file import fill_network, tensors_of
from msdet.errors import UsageError, UserError
from msdet.runtime.device import computes_in_float16, device_traits
from msdet.training.step import TrainStep

if TYPE_CHECKING:
    from msdet.config import Config
    from msdet.data.loading.batch import ImageBatch
    from msdet.data.loading.loader import BatchLoader
    from msdet.runtime.start import Runtime
    from msdet.runtime.stop import StopRequest
    from msdet.training.schedules import Schedule
    from msdet.training.step_report import LaunchedStep

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepResult:
    """The result of one step.

    Attributes:
        loss: sum of `losses`.
        losses: name of each loss -> value, unscaled and unweighted; mean over all processes.
        gradient_norm: L2 norm after `loss_weight` and before clipping.
        is_finite: whether loss and gradient are finite; if not, the update was skipped.
        rate: learning rate.
        loss_scale: the loss scale that was used.
        images: number of images of this process.
    """

    loss: float
    losses: Mapping[str, float]
    gradient_norm: float
    is_finite: bool
    rate: float
    loss_scale: float
    images: int


@dataclass(frozen=True)
class _RunningStep:
    """A launched step whose result has not been read."""

    launched: LaunchedStep
    batch: ImageBatch
    rate: float


class Hook:
    """Base class of training hooks; a subclass overrides the methods it needs."""

    def before_train(self, trainer: Trainer) -> None:
        """Called before the first step of this process."""

    def before_step(self, trainer: Trainer, batch: ImageBatch) -> None:
        """Called before each step."""

    def after_step(self, trainer: Trainer) -> None:
        """Called after each step; `trainer.step` includes it."""

    def after_epoch(self, trainer: Trainer) -> None:
        """Called after each complete epoch; `trainer.epoch` includes it."""

    def after_last_step(self, trainer: Trainer) -> None:
        """Called when the training is complete or was stopped by a request or a data error; not after other errors."""

    def after_train(self, trainer: Trainer) -> None:
        """Called at the very end, also after an error."""

    def on_failure(self, trainer: Trainer, batch: ImageBatch, losses: Sequence[float]) -> str:
        """Called when a step was not finite and the run is about to end.

        Args:
            trainer: holds the weights that the step used; its `result` is that of the step.
            batch: of this rank.
            losses: each loss on this rank.

        Returns:
            a sentence for the error message; empty if there is nothing to add.
        """
        return ""


class Trainer:
    """Runs the training epochs and calls a list of hooks.

    Where the host may run ahead of the device, the result of a step is read after the next one is launched, so that
    neither waits for the other. A step counts as finished, and `after_step` is called, once its result is read.

    Attributes:
        epoch: finished epochs.
        step: finished steps since the start of the training.
        step_in_epoch: finished steps of the current epoch.
        result: result of the latest step.
        should_stop: whether the run ends now; all ranks agree on it at each step, so that none waits for another.
        window: finished steps of the current accumulation window.
        best_score, best_epoch: highest validation score so far and its epoch; None before the first evaluation.
        skipped, skipped_in_a_row: number of steps whose update was skipped because of an overflow.
        scored_epoch: the last epoch that was evaluated or needed no evaluation.

    Args:
        cfg: resolved configuration.
        runtime: device and ranks.
        train_step: the compiled step; its loss cell holds the network.
        loss_names: names of the criterion's losses.
        loader: training batches.
        schedule: (epoch, step of the epoch) -> learning rate.
        folder: output folder of the run.
        card: content of the checkpoints' cards.
        dataset: fingerprint of the training data.
        stop: checked after each step.
    """

    def __init__(
        self,
        cfg: Config,
        runtime: Runtime,
        train_step: TrainStep,
        loss_names: Sequence[str],
        loader: BatchLoader,
        schedule: Schedule,
        folder: Path,
        card: Mapping[str, Any],
        dataset: str,
        stop: StopRequest,
    ) -> None:
        self.cfg = cfg
        self.runtime = runtime
        self.train_step = train_step
        self.loss_names = tuple(loss_names)
        self.loader = loader
        self.schedule = schedule
        self.folder = folder
        self.card = card
        self.dataset = dataset
        self.stop = stop
        self.hooks: Sequence[Hook] = ()
        self.steps_per_epoch = loader.steps_per_epoch
        self.epoch = 0
        self.step = 0
        self.step_in_epoch = 0
        self.window = 0
        self.best_score: float | None = None
        self.best_epoch: int | None = None
        self.scored_epoch = 0
        self.skipped = 0
        self.skipped_in_a_row = 0
        self._result: StepResult | None = None
        self.should_stop = False
        self._running: _RunningStep | None = None

    @property
    def result(self) -> StepResult:
        """Result of the latest step; available after the first."""
        assert self._result is not None
        return self._result

    def start_at_epoch(self, count: int) -> None:
        """Starts after `count` epochs: counters and schedule continue from there."""
        self.epoch, self.step = count, count * self.steps_per_epoch
        self.scored_epoch = count

    @property
    def _steps_running(self) -> int:
        return int(self._running is not None)

    @property
    def next_step(self) -> int:
        """Number of the step to launch next, from 0: `step` plus the step whose result has not been read."""
        return self.step + self._steps_running

    @property
    def steps_left(self) -> int:
        """Number of steps to the end of the last epoch."""
        return max((self.cfg.max_epoch - self.epoch) * self.steps_per_epoch - self.step_in_epoch, 0)

    def fit(self, hooks: Sequence[Hook]) -> None:
        """Trains from the current step to the last epoch.

        Raises:
            UsageError: there are too few steps for a single update.
            UserError: a batch cannot be loaded, or a step is not finite.
        """
        self._check_windows()
        self.hooks = hooks
        self.loader.start()
        with ExitStack() as stack:
            self.stop.is_polled = True
            for hook in hooks:
                hook.before_train(self)
                stack.callback(hook.after_train, self)
            self._check_stop_request()
            while self.epoch < self.cfg.max_epoch and not self.should_stop:
                self._one_epoch()
            for hook in hooks:
                hook.after_last_step(self)

    def _check_windows(self) -> None:
        """Warns of accumulated gradients that would never be applied."""
        updates, lost = divmod(self.window + self.steps_left, self.cfg.accumulate_steps)
        if self.step == 0 and updates == 0:
            raise UsageError(
                f"accumulate_steps {self.cfg.accumulate_steps} is more than the {self.steps_left} steps of this "
                "training: no weight would be updated. Set it lower, or train longer"
            )
        if lost and self.steps_left:
            log.warning(
                "accumulate_steps %d does not divide the number of steps: the last %d make no update",
                *(self.cfg.accumulate_steps, lost),
            )

    def _one_epoch(self) -> None:
        batches = self.loader.epoch(self.epoch, self.step_in_epoch)
        while (batch := self._next(batches)) is not None:
            for hook in self.hooks:
                hook.before_step(self, batch)
            launched = self._launch(batch)
            self._finish_running()
            self._running = launched
            if not device_traits().runs_ahead:
                self._finish_running()
            self._check_stop_request()
            if self.should_stop:
                break
        self._finish_running()
        self._check_stop_request()
        if self.step_in_epoch == self.steps_per_epoch:
            self.epoch += 1
            self.step_in_epoch = 0
            for hook in self.hooks:
                hook.after_epoch(self)
            self._check_stop_request()

    def _finish_running(self) -> None:
        """Waits for the running step, if any, and counts it."""
        if self._running is None:
            return
        running, self._running = self._running, None
        self._read(running)
        self.step += 1
        self.step_in_epoch += 1
        self.window = (self.window + 1) % self.cfg.accumulate_steps
        for hook in self.hooks:
            hook.after_step(self)

    def _next(self, batches: Iterator[ImageBatch]) -> ImageBatch | None:
        """The next batch; on a data error the training so far is saved before the error is raised again."""
        try:
            return next(batches, None)
        except UserError:
            self._finish_running()
            for hook in self.hooks:
                hook.after_last_step(self)
            raise

    def _check_stop_request(self) -> None:
        """A single process stops at once; several ranks stop after the next step, when all of them know the request."""
        self.should_stop |= self.stop.is_made() and self.runtime.group_size == 1

    def _launch(self, batch: ImageBatch) -> _RunningStep:
        rate = self.schedule(self.epoch, self.step_in_epoch + self._steps_running)
        launched = self.train_step.launch(
            list(batch.arrays().values()),
            rate,
            (self.window + self._steps_running) % self.cfg.accumulate_steps,
            self._ema_decay(),
            stop=self.stop.is_made(),
            ahead=device_traits().is_ascend,
        )
        return _RunningStep(launched, batch, rate)

    def _read(self, running: _RunningStep) -> None:
        """Waits for the result of a step."""
        report = running.launched.read()
        self.should_stop |= report.is_stop_requested
        losses = dict(zip(self.loss_names, report.losses, strict=True))
        result = StepResult(
            loss=sum(losses.values()),
            losses=losses,
            gradient_norm=report.gradient_norm,
            is_finite=report.is_finite,
            rate=running.rate,
            loss_scale=report.scale,
            images=len(running.batch.image_ids),
        )
        self._result = result
        self._count_skips(result, running.batch, report.own_losses)

    def _count_skips(self, result: StepResult, batch: ImageBatch, losses: Sequence[float]) -> None:
        """Counts skipped steps.

        Raises:
            UserError: the step is not finite in full precision, or is one of too many in a row; the message names the
                folder where the step was saved.
        """
        self.skipped_in_a_row = 0 if result.is_finite else self.skipped_in_a_row + 1
        self.skipped += not result.is_finite
        is_tolerated = self._tolerates_overflow() and self.skipped_in_a_row < self.cfg.max_skipped_steps
        if result.is_finite or is_tolerated:
            return
        notes = [note for hook in self.hooks if (note := hook.on_failure(self, batch, losses))]
        raise UserError("; ".join([_not_finite(self, result, batch), *notes]))

    def _ema_decay(self) -> float:
        """At most (1 + t) / (10 + t) at step t, so that an average of few steps forgets the random initial weights."""
        return min(self.cfg.ema_decay, (1 + self.next_step) / (10 + self.next_step))

    def _tolerates_overflow(self) -> bool:
        return computes_in_float16(self.cfg)

    def snapshot(self) -> Snapshot:
        """The complete state of the training, from which it resumes bit for bit."""
        return Snapshot(
            weights=self.network_tensors(),
            averages=self.train_step.averages(),
            state=self.train_step.state(),
            progress={
                "epoch": self.epoch,
                "step": self.step,
                "step_in_epoch": self.step_in_epoch,
                "steps_per_epoch": self.steps_per_epoch,
                "window": self.window,
                **self.scores(),
                "skipped": self.skipped,
                "skipped_in_a_row": self.skipped_in_a_row,
                "group_size": self.runtime.group_size,
            },
            config=self.cfg.to_dict(),
            dataset=self.dataset,
        )

    def scores(self) -> dict[str, Any]:
        """The results of the evaluations so far, as part of the progress in a snapshot."""
        return {"best_score": self.best_score, "best_epoch": self.best_epoch, "scored_epoch": self.scored_epoch}

    def restore(self, snapshot: Snapshot, source: Path) -> None:
        """Restores a snapshot; also one with another batch size, dataset, number of processes or optimizer.

        If an epoch now has another number of steps, training continues at the same fraction of the current epoch.

        Raises:
            UserError: its tensors do not fit this network.
        """
        fill_network(self.train_step.loss_cell.network, snapshot.weights, source)
        self.train_step.load_statistics()
        has_window = snapshot.config.get("accumulate_steps", 1) == self.cfg.accumulate_steps
        try:
            self.train_step.load_state(snapshot.state, with_window=has_window)
            if snapshot.averages:
                self.train_step.load_averages(snapshot.averages)
            else:
                self.train_step.restart_averages()
        except (KeyError, ValueError) as error:
            raise UserError(f"{source} does not fit the optimizer of this configuration: {error}") from error
        progress = snapshot.progress
        self.epoch, self.step = int(progress["epoch"]), int(progress["step"])
        self.step_in_epoch = _step_at_same_fraction(progress, self.steps_per_epoch)
        self.window = int(progress.get("window", self.step % self.cfg.accumulate_steps)) if has_window else 0
        self.best_score, self.best_epoch = progress["best_score"], progress.get("best_epoch")
        self.scored_epoch = int(progress.get("scored_epoch", self.epoch))
        self.skipped = int(progress.get("skipped", 0))
        self.skipped_in_a_row = int(progress.get("skipped_in_a_row", 0))

    def trainable_names(self) -> set[str]:
        """Names of the trainable weights, which are equal on all ranks."""
        return {parameter.name for parameter in self.train_step.weights}

    def weights_to_score(self) -> dict[str, np.ndarray]:
        """The weights to evaluate: the moving averages if `ema_decay` is set, else the trained weights."""
        return self.train_step.averages() or self.network_tensors()

    def network_tensors(self) -> dict[str, np.ndarray]:
        """All tensors of the network by name, not averaged."""
        self.train_step.store_statistics()
        return tensors_of(self.train_step.loss_cell.network)


def _step_at_same_fraction(progress: Mapping[str, Any], steps_per_epoch: int) -> int:
    """The step of an epoch of `steps_per_epoch` steps at the same fraction of the epoch as in the progress."""
    step = int(progress["step_in_epoch"])
    if "steps_per_epoch" in progress:
        return step * steps_per_epoch // int(progress["steps_per_epoch"])
    # Checkpoints of earlier versions lack it.
    return min(step, steps_per_epoch - 1)


def _not_finite(trainer: Trainer, result: StepResult, batch: ImageBatch) -> str:
    terms = ", ".join(f"{name} {value:g}" for name, value in result.losses.items())
    finite = math.isfinite(result.loss), math.isfinite(result.gradient_norm)
    what = {(True, True): "the variance of a batch norm", (True, False): "the gradient"}.get(finite, "the loss")
    repeats = f" {trainer.skipped_in_a_row} times in a row" if trainer.skipped_in_a_row > 1 else ""
    scale = f", loss scale {result.loss_scale:g}" if result.loss_scale != 1 else ""
    images = ", ".join(map(str, batch.image_ids))
    return (
        f"{what} is not finite{repeats} in epoch {trainer.epoch}, step {trainer.step}: {terms}{scale}; "
        f"images {images}.\n"
        "The weights were not updated. Lower --lr, set --clip_grad_norm, or with fp16 lower --loss_scale or set "
        "--dynamic_loss_scale=True"
    )
