"""Hooks that log and display the progress of a training."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tqdm import tqdm

from msdet.data.loading.batch import Batch
from msdet.runtime.start import touch_heartbeat
from msdet.training.loop import Hook, Trainer

if TYPE_CHECKING:
    from msdet.data.loading.batch import ImageBatch

log = logging.getLogger(__name__)


class LogLines(Hook):
    """Writes the documented log lines: one every `interval` steps with the mean loss since the last one, and two at the
    end of each epoch."""

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
                "step %d: gradient overflow, update skipped, loss scale was %g; %d skipped so far, %d in a row",
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
                "%d boxes of crowded images were dropped so far: set max_boxes higher", trainer.loader.boxes_cut
            )
        self._epoch_since, self._epoch_steps = time.monotonic(), 0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Excludes the time of an evaluation from the logged speeds and times."""
        begin = time.monotonic()
        try:
            yield
        finally:
            spent = time.monotonic() - begin
            self._since += spent
            self._epoch_since += spent


class CompileProgress(Hook):
    """Says that the graph is being compiled, so that a long first step does not look like a hang.

    Args:
        interval: seconds between two lines.
    """

    def __init__(self, interval: float = 10.0) -> None:
        self.interval = interval
        self._done = threading.Event()
        self._is_started = False

    def before_step(self, trainer: Trainer, batch: ImageBatch) -> None:
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


class AnnounceCompiles(Hook):
    """Logs when a batch of a new shape triggers a compile, which looks like a stall.

    Args:
        is_dynamic: whether one compiled step serves all shapes, so that there is nothing to log.
    """

    def __init__(self, is_dynamic: bool) -> None:
        self.is_dynamic = is_dynamic
        self._seen: set[tuple[int, ...]] = set()

    def before_step(self, trainer: Trainer, batch: ImageBatch) -> None:
        assert isinstance(batch, Batch), "all batches of a classifier have the same shape"
        shape = (*batch.size, batch.boxes.shape[1])
        if self._seen and shape not in self._seen and not self.is_dynamic:
            log.info("compiling again for %d x %d px and up to %d boxes per image", *shape)
        self._seen.add(shape)


class Heartbeat(Hook):
    """Signals the launcher at each step that this rank is alive; when ranks hang, the one that stopped first is at
    fault."""

    def before_step(self, trainer: Trainer, batch: ImageBatch) -> None:
        touch_heartbeat()

    def after_step(self, trainer: Trainer) -> None:
        touch_heartbeat()


class ProgressBar(Hook):
    """One progress bar for the whole training, for terminals."""

    def before_train(self, trainer: Trainer) -> None:
        total = trainer.step + trainer.steps_left
        self._bar = tqdm(total=total, initial=trainer.step, unit="step", dynamic_ncols=True, file=sys.stderr)

    def after_step(self, trainer: Trainer) -> None:
        # The training continues when the terminal is closed.
        with suppress(OSError):
            self._bar.set_description(f"epoch {trainer.epoch + 1}/{trainer.cfg.max_epoch}", refresh=False)
            self._bar.set_postfix(loss=f"{trainer.result.loss:.3f}", lr=f"{trainer.result.rate:.2g}", refresh=False)
            self._bar.update()

    def after_train(self, trainer: Trainer) -> None:
        with suppress(OSError):
            self._bar.close()
