"""Iterates over the batches of a dataset; worker processes prefetch them."""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

import numpy as np

from msdet.data.images.notes import ImageNote
from msdet.data.loading.batch import BatchMaker, BatchTargets, BatchTask, ImageBatch
from msdet.data.loading.order import Shard, epoch_order, sample_input_size
from msdet.data.loading.workers import Stopped, WorkerPool, WorkersLost
from msdet.errors import UsageError, UserError

logger = logging.getLogger(__name__)
_SHOWN = 5


def _never() -> bool:
    return False


class BatchLoader:
    """Yields the batches of each epoch; they do not depend on the number of workers.

    Use it as a context manager, or call `close()`: worker processes persist between epochs.

    Args:
        maker: makes the batches.
        batch_size: images per batch of this rank.
        sizes: input sizes (h, w). With several, one is sampled every `resize_rate` batches, the same on all ranks.
        training: shuffled, with the same number of full batches on every rank; otherwise every image exactly once, in
            the order of the dataset, with a smaller last batch.
        shuffle: overrides the order that `training` implies.
        drop_last: training only: drop the last incomplete batch of an epoch; False repeats images to fill it. A dataset
            smaller than one batch always repeats.
        seed: of order and sizes; not negative.
        rank, group_size: rank of this process, and number of ranks.
        num_workers: number of worker processes; 0 makes the batches in this process.
        prefetch: batches prefetched per worker.
        resize_rate: consecutive batches of the same size.
        stall_timeout: seconds to wait for a batch before an error is raised.
        is_stopped: polled while waiting for a batch; True ends the epoch early.

    Attributes:
        steps_per_epoch: batches of an epoch on this rank.
        boxes_cut: number of boxes that `cut_boxes` dropped from the batches yielded so far.
        bad_images: error messages of the images skipped so far in this epoch, by their positions.

    Raises:
        UserError: the dataset is empty.
        UsageError: an argument is out of range.
    """

    def __init__(
        self,
        maker: BatchMaker,
        batch_size: int,
        sizes: Sequence[tuple[int, int]],
        *,
        training: bool,
        shuffle: bool | None = None,
        drop_last: bool = True,
        seed: int = 0,
        rank: int = 0,
        group_size: int = 1,
        num_workers: int = 2,
        prefetch: int = 2,
        resize_rate: int = 1,
        stall_timeout: float = 120.0,
        is_stopped: Callable[[], bool] = _never,
    ) -> None:
        self.dataset = maker.dataset
        if not len(self.dataset):
            raise UserError(f"{self.dataset.ann_file} has no images to make batches of")
        _check_ranges(batch_size=batch_size, resize_rate=resize_rate, prefetch=prefetch)
        if num_workers < 0 or seed < 0 or not 0 <= rank < group_size or not sizes:
            raise UsageError(
                f"num_workers={num_workers} and seed={seed} must not be negative, rank={rank} must lie below "
                f"group_size={group_size}, and there must be a size"
            )
        self.sizes = [(int(height), int(width)) for height, width in sizes]
        self.boxes_cut = 0
        self._shuffle = training if shuffle is None else shuffle
        self._shard = Shard(len(self.dataset), batch_size, rank, group_size, training, drop_last)
        self._maker = maker
        self.bad_images: dict[int, str] = {}
        self._logged_notes: dict[str, set[str]] = {}
        self._seed, self._resize_rate = seed, resize_rate
        self._num_workers, self._prefetch, self._stall_timeout = num_workers, prefetch, stall_timeout
        self._slot_bytes = batch_size * 3 * max(height * width for height, width in self.sizes)
        self._pool: WorkerPool | None = None
        self._close_pool: weakref.finalize | None = None
        self._is_stopped = is_stopped
        self._log_shard()

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch on this rank."""
        return self._shard.steps

    def size_of(self, epoch: int, number: int) -> tuple[int, int]:
        """Input size (h, w) of a batch, known before it is made."""
        return sample_input_size(self.sizes, self._resize_rate, self._seed, epoch, number)

    def start(self) -> None:
        """Starts the workers ahead of `epoch`, so that they start up while the network is being compiled."""
        if self._num_workers:
            self._started_pool()

    def _started_pool(self) -> WorkerPool:
        if self._pool is None:
            slots = self._num_workers * self._prefetch + 1
            self._pool = WorkerPool(self._maker, self._num_workers, slots, self._slot_bytes, self._stall_timeout)
            self._close_pool = weakref.finalize(self, self._pool.close)
        return self._pool

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[ImageBatch]:
        """The batches of an epoch from `start_batch` on, in order.

        The images of a batch are valid until the next one is requested. Only one epoch can run at a time.

        Raises:
            UserError: an image of the batch cannot be used; or a worker died or stalled.
        """
        order = epoch_order(len(self.dataset), self._seed, epoch, self._shuffle)
        tasks = (self._task(order, epoch, number) for number in range(start_batch, self.steps_per_epoch))
        return self._with_report(self._from_workers(tasks) if self._num_workers else self._in_process(tasks), epoch)

    def close(self) -> None:
        """Stops the workers. The loader can be used again: a new epoch starts new ones."""
        if self._close_pool is not None:
            self._close_pool()
        self._pool = self._close_pool = None

    def __enter__(self) -> BatchLoader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _with_report(self, batches: Iterator[ImageBatch], epoch: int) -> Iterator[ImageBatch]:
        """Logs the skipped images at the end of the epoch."""
        self.bad_images = {}
        try:
            yield from batches
        finally:
            if self.bad_images:
                shown = "; ".join(list(self.bad_images.values())[:_SHOWN])
                more = f"; and {len(self.bad_images) - _SHOWN} more" if len(self.bad_images) > _SHOWN else ""
                logger.warning("epoch %d skipped %d images: %s%s", epoch + 1, len(self.bad_images), shown, more)

    def _task(self, order: np.ndarray, epoch: int, number: int) -> BatchTask:
        indices, keys = self._shard.batch(order, number)
        return BatchTask(epoch, number, self.size_of(epoch, number), indices, keys)

    def _in_process(self, tasks: Iterator[BatchTask]) -> Iterator[ImageBatch]:
        memory = np.empty(self._slot_bytes, np.uint8)
        for task in tasks:
            shape = (len(task.indices), *task.size, 3)
            images = memory[: int(np.prod(shape))].reshape(shape)
            yield self._finished(task, images, self._maker.make(task, images))

    def _from_workers(self, tasks: Iterator[BatchTask]) -> Iterator[ImageBatch]:
        pool = self._started_pool()
        pending: deque[tuple[int, BatchTask]] = deque()
        slots_in_use: list[int] = []
        try:
            while True:
                self._submit_ahead(pool, tasks, pending)
                if not pending:
                    return
                ticket, task = pending[0]
                slot, images, targets = pool.collect(ticket, self._is_stopped)
                pending.popleft()
                slots_in_use.append(slot)
                yield self._finished(task, images, targets)
                pool.release(slots_in_use.pop())
        except WorkersLost:
            self.close()
            raise
        except Stopped:
            return
        finally:
            for slot in slots_in_use:
                pool.release(slot)
            pool.abandon(ticket for ticket, _ in pending)

    def _submit_ahead(
        self, pool: WorkerPool, tasks: Iterator[BatchTask], pending: deque[tuple[int, BatchTask]]
    ) -> None:
        # With nothing pending, the slots may still be in use by an abandoned epoch; then `submit` waits.
        while pool.has_free_slot or not pending:
            task = next(tasks, None)
            if task is None:
                return
            pending.append((pool.submit(task, self._is_stopped), task))

    def _finished(self, task: BatchTask, images: np.ndarray, targets: BatchTargets) -> ImageBatch:
        self.bad_images |= targets.bad_images
        self.boxes_cut += targets.cut
        self._log_notes(targets.notes)
        return self._maker.batch(task, images, targets)

    def _log_notes(self, notes: Sequence[ImageNote]) -> None:
        """Logs remarks on images that could be read: each one once, and the first few of each kind."""
        for note in notes:
            logged = self._logged_notes.setdefault(note.kind, set())
            if len(logged) > _SHOWN or note.text in logged:
                continue
            logged.add(note.text)
            if len(logged) <= _SHOWN:
                logger.warning("%s", note.text)
            else:
                logger.warning("more images have this problem (%s): msdet check lists them all", note.kind)

    def _log_shard(self) -> None:
        shard = self._shard
        whole = shard.batch_size * shard.group_size
        if shard.training and shard.count < whole:
            logger.warning(
                "%d images are fewer than a step needs (%d): %d of them repeat in every step",
                *(shard.count, whole, shard.repeated),
            )
        elif shard.dropped:
            logger.info("each epoch drops %d of %d images: the last step is incomplete", shard.dropped, shard.count)
        elif shard.repeated:
            logger.info("%d images repeat in each epoch to fill the last step", shard.repeated)


def _check_ranges(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise UsageError(f"{name} is {value}: it must be at least 1")
