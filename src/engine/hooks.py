"""What happens around the training steps: logs, curves, checkpoints, evaluation. Each concern is one hook."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from src.engine.checkpoints import CheckpointFolder
from src.engine.runtime import beat
from src.engine.weights_file import save_weights

if TYPE_CHECKING:
    from src.data.batch import Batch
    from src.engine.trainer import Trainer

log = logging.getLogger(__name__)


class Hook:
    """Something that watches a training. Every method may be left as it is."""

    def before_train(self, trainer: Trainer) -> None:
        """Before the first step of this process."""

    def before_step(self, trainer: Trainer, batch: Batch) -> None:
        """Before each step."""

    def after_step(self, trainer: Trainer) -> None:
        """After each step; `trainer.step` counts it already."""

    def after_epoch(self, trainer: Trainer) -> None:
        """After each whole epoch; `trainer.epoch` counts it already."""

    def after_last_step(self, trainer: Trainer) -> None:
        """When the training is finished or was asked to stop; not after an error."""

    def after_train(self, trainer: Trainer) -> None:
        """At the very end, also when an error ends the training."""


class Heartbeat(Hook):
    """Says that the graph is being compiled, so that a long first step does not look like a hang.

    Args:
        interval: seconds between two lines.
    """

    def __init__(self, interval: float = 10.0) -> None:
        self.interval = interval
        self._done = threading.Event()
        self._is_started = False

    def before_step(self, trainer: Trainer, batch: Batch) -> None:
        if not self._is_started:
            self._is_started = True
            log.info("compiling the training graph; the first step takes from seconds to a few minutes")
            threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def _beat(self) -> None:
        start = time.monotonic()
        while not self._done.wait(self.interval):
            log.info("still compiling: %.0f s", time.monotonic() - start)

    def after_step(self, trainer: Trainer) -> None:
        self._done.set()

    def after_train(self, trainer: Trainer) -> None:
        self._done.set()


class Beat(Hook):
    """Tells the launcher at each step that this rank goes on: of ranks that stand still, the first one is at fault."""

    def before_step(self, trainer: Trainer, batch: Batch) -> None:
        beat()

    def after_step(self, trainer: Trainer) -> None:
        beat()


class LogLines(Hook):
    """The documented lines: one every `interval` steps with the mean loss since the last, two at the end of an
    epoch."""

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self._losses: list[float] = []
        self._images = 0

    def before_train(self, trainer: Trainer) -> None:
        self._since = self._epoch_since = time.monotonic()
        self._epoch_steps = 0

    def after_step(self, trainer: Trainer) -> None:
        result = trainer.result
        self._losses.append(result.loss)
        self._images += result.images * trainer.runtime.group_size
        self._epoch_steps += 1
        if not result.is_finite:
            log.warning(
                "step %d: gradient overflow, update left out, loss scale was %g; %d left out so far, %d in a row",
                *(trainer.step, result.loss_scale, trainer.skipped, trainer.skipped_in_a_row),
            )
        if (trainer.step - 1) % self.interval == 0:
            now = time.monotonic()
            log.info(
                "epoch[%d], iter[%d], loss:%f, %.2f imgs/sec, lr:%s",
                trainer.epoch, trainer.step - 1, sum(self._losses) / len(self._losses),
                self._images / max(now - self._since, 1e-9), result.rate,
            )  # fmt: skip
            self._losses, self._images, self._since = [], 0, now

    def after_epoch(self, trainer: Trainer) -> None:
        spent = 1000 * (time.monotonic() - self._epoch_since)
        steps = max(self._epoch_steps, 1)
        log.info("epoch: %d step: %d, loss is %s", trainer.epoch, trainer.steps_per_epoch, trainer.result.loss)
        log.info("epoch time: %.1f ms, per step time: %.2f ms", spent, spent / steps)
        if trainer.loader.boxes_cut:
            log.warning(
                "%d boxes of crowded images were left out so far: set max_boxes higher", trainer.loader.boxes_cut
            )
        self._epoch_since, self._epoch_steps = time.monotonic(), 0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the time that something else than training takes (an evaluation) out of speeds and times."""
        begin = time.monotonic()
        try:
            yield
        finally:
            spent = time.monotonic() - begin
            self._since += spent
            self._epoch_since += spent


class AnnounceCompiles(Hook):
    """Says when a batch of another shape makes the compiler work again, which looks like a stall.

    Args:
        is_dynamic: one compiled step serves all shapes, so that there is nothing to announce.
    """

    def __init__(self, is_dynamic: bool) -> None:
        self.is_dynamic = is_dynamic
        self._seen: set[tuple[int, ...]] = set()

    def before_step(self, trainer: Trainer, batch: Batch) -> None:
        shape = (*batch.size, batch.boxes.shape[1])
        if self._seen and shape not in self._seen and not self.is_dynamic:
            log.info("compiling once more, for %d x %d px and up to %d boxes an image", *shape)
        self._seen.add(shape)


class Profile(Hook):
    """Records the first steps with MindSpore's profiler.

    Args:
        folder: where the trace goes.
        steps: how many steps, after the one that compiles.
    """

    def __init__(self, folder: Path, steps: int = 5) -> None:
        self.folder = folder
        self.steps = steps
        self._profiler = None

    def after_step(self, trainer: Trainer) -> None:
        import mindspore.profiler as profiling

        self._taken = getattr(self, "_taken", -1) + 1
        if self._taken == 0:
            self._profiler = profiling.profile(
                on_trace_ready=profiling.tensorboard_trace_handler(str(self.folder)),
            )
            self._profiler.start()
        elif self._taken == self.steps:
            self._stop()

    def after_train(self, trainer: Trainer) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._profiler is not None:
            self._profiler.stop()
            self._profiler = None
            log.info("profile of %d steps: %s", self.steps, self.folder)


class ProgressBar(Hook):
    """One bar over the whole training, on a terminal only."""

    def before_train(self, trainer: Trainer) -> None:
        total = trainer.step + trainer.steps_left
        self._bar = tqdm(total=total, initial=trainer.step, unit="step", dynamic_ncols=True, file=sys.stderr)

    def after_step(self, trainer: Trainer) -> None:
        # A terminal that was closed ends no training.
        with suppress(OSError):
            self._bar.set_description(f"epoch {trainer.epoch + 1}/{trainer.cfg.max_epoch}", refresh=False)
            self._bar.set_postfix(loss=f"{trainer.result.loss:.3f}", lr=f"{trainer.result.rate:.2g}", refresh=False)
            self._bar.update()

    def after_train(self, trainer: Trainer) -> None:
        with suppress(OSError):
            self._bar.close()


class SaveCheckpoints(Hook):
    """A checkpoint every `interval` epochs and at the end, which may lie inside an epoch.

    Where a batch cannot be made, that is the end too: what was trained until then is saved. A checkpoint between two of
    the interval, which an evaluation asks for, is removed when the next is whole, and pushes none out.

    Args:
        checkpoints: where to.
        interval: epochs between two.
        is_writer: False on a rank that does not save.
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
        # One that somebody named stays.
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
        """Saves now, unless this step is saved already."""
        if self.is_writer and self._saved_step != trainer.step:
            is_extra = not self._is_due(trainer)
            path = self.checkpoints.save(trainer.snapshot(), trainer.card, is_extra, self._extra)
            self._extra = self.checkpoints.manifest(trainer.epoch, trainer.step) if is_extra else None
            self._saved_step = trainer.step
            log.info("saved %s", path)

    def note_score(self, trainer: Trainer) -> None:
        """Tells the checkpoint of this step, if there is one, that it was scored."""
        manifest = self.checkpoints.manifest(trainer.epoch, trainer.step)
        if self.is_writer and manifest.is_file():
            self.checkpoints.note(manifest, trainer.scores())


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


class Evaluate(Hook):
    """Scores the validation images from `start_epoch` on every `interval` epochs, and keeps the best weights.

    A checkpoint is written first, so that whatever ends an evaluation costs no trained epoch. One that was cut short is
    made up for when the run goes on.

    Args:
        evaluate: weights by name -> scores by name, each in 0..1; the best weights are those of the first. None if it
            was stopped.
        saver: writes the checkpoint; it stands before this hook.
        start_epoch: first epoch, counted from 1, after which it scores.
        interval: epochs between two.
        best_path: file of the best weights; None keeps none.
        on_scored: told of each result.
    """

    def __init__(
        self,
        evaluate: Callable[[dict], Mapping[str, float] | None],
        saver: SaveCheckpoints,
        start_epoch: int,
        interval: int,
        best_path: Path | None,
        on_scored: list[Callable[[Trainer, Mapping[str, float]], None]],
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
        weights = trainer.weights_to_use()
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
        for tell in self.on_scored:
            tell(trainer, scores)
        self.saver.note_score(trainer)
