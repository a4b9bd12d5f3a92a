"""Batches of a dataset, in order, made ahead by worker processes or in this one."""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

import numpy as np

from msdet.data.images.notes import ImageNote
from msdet.data.loading.batch import BatchMaker, BatchTask, ImageBatch, TargetsOf
from msdet.data.loading.order import Shard, batch_size_px, epoch_order
from msdet.data.loading.workers import Stopped, WorkerPool, WorkersLost
from msdet.errors import UsageError, UserError

logger = logging.getLogger(__name__)
_SHOWN = 5


def _never() -> bool:
    return False


class BatchLoader:
    """Makes the batches of each epoch; the same ones for any number of workers.

    Use it as a context manager, or call `close()`: worker processes stay between epochs.

    Args:
        maker: of the batches of a dataset.
        batch_size: images of a batch of this rank.
        sizes: network sizes (h, w). With several, one is drawn every `resize_rate` batches, alike on all ranks.
        training: shuffled, and equally many whole batches on every rank; otherwise every image exactly once, in the
            dataset's order, the last batch of a rank smaller.
        shuffle: takes the place of what `training` says.
        drop_last: training only: the images of the last incomplete batch wait for another epoch; False repeats images
            to fill it. A dataset smaller than one batch always repeats.
        seed: of order and sizes; not negative.
        rank, group_size: this process and the number of processes that train together.
        num_workers: processes that make batches; 0 makes them in this one.
        prefetch: batches made ahead by each worker.
        resize_rate: batches of one size in a row.
        stall_timeout: seconds to wait for a batch before it is an error.
        is_stopped: asked while a batch is waited for; True ends the epoch early.

    Attributes:
        steps_per_epoch: batches of an epoch on this rank.
        boxes_cut: boxes that `cut_boxes` has left out of the batches given out so far.
        bad: what is wrong with the images that the epoch, as far as it has run, goes without, by their positions.

    Raises:
        UserError: the dataset is empty. UsageError: an argument out of its range.
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
        self.bad: dict[int, str] = {}
        self._told: dict[str, set[str]] = {}
        self._seed, self._resize_rate = seed, resize_rate
        self._num_workers, self._prefetch, self._stall_timeout = num_workers, prefetch, stall_timeout
        self._slot_bytes = batch_size * 3 * max(height * width for height, width in self.sizes)
        self._pool: WorkerPool | None = None
        self._close_pool: weakref.finalize | None = None
        self._is_stopped = is_stopped
        self._log_shares()

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch on this rank."""
        return self._shard.steps

    def size_of(self, epoch: int, number: int) -> tuple[int, int]:
        """Network size (h, w) of a batch, before it is made."""
        return batch_size_px(self.sizes, self._resize_rate, self._seed, epoch, number)

    def start(self) -> None:
        """Starts the workers, which `epoch` does otherwise: they can wake up while a network is being compiled."""
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

        The images of a batch are valid until the next one is asked for. One epoch can run at a time.

        Raises:
            UserError: an image cannot be used, when its batch is due; or a worker died or stalled.
        """
        order = epoch_order(len(self.dataset), self._seed, epoch, self._shuffle)
        tasks = (self._task(order, epoch, number) for number in range(start_batch, self.steps_per_epoch))
        return self._with_report(self._from_workers(tasks) if self._num_workers else self._in_process(tasks), epoch)

    def close(self) -> None:
        """Ends the workers. The loader can be used again: a new epoch starts new ones."""
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
        """Names at the end the images that the epoch went without."""
        self.bad = {}
        try:
            yield from batches
        finally:
            if self.bad:
                shown = "; ".join(list(self.bad.values())[:_SHOWN])
                more = f"; and {len(self.bad) - _SHOWN} more" if len(self.bad) > _SHOWN else ""
                logger.warning("epoch %d went without %d images: %s%s", epoch + 1, len(self.bad), shown, more)

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
        held: list[int] = []
        try:
            while True:
                self._submit_ahead(pool, tasks, pending)
                if not pending:
                    return
                ticket, task = pending[0]
                slot, images, targets = pool.collect(ticket, self._is_stopped)
                pending.popleft()
                held.append(slot)
                yield self._finished(task, images, targets)
                pool.release(held.pop())
        except WorkersLost:
            self.close()
            raise
        except Stopped:
            return
        finally:
            for slot in held:
                pool.release(slot)
            pool.abandon(ticket for ticket, _ in pending)

    def _submit_ahead(
        self, pool: WorkerPool, tasks: Iterator[BatchTask], pending: deque[tuple[int, BatchTask]]
    ) -> None:
        # Without anything pending the slots may still be busy with an epoch that was given up: then submit waits.
        while pool.has_free_slot or not pending:
            task = next(tasks, None)
            if task is None:
                return
            pending.append((pool.submit(task, self._is_stopped), task))

    def _finished(self, task: BatchTask, images: np.ndarray, targets: TargetsOf) -> ImageBatch:
        self.bad |= targets.bad
        self.boxes_cut += targets.cut
        self._log_notes(targets.notes)
        return self._maker.batch(task, images, targets)

    def _log_notes(self, notes: Sequence[ImageNote]) -> None:
        """Names images that are read but odd: each once, the first few of a kind."""
        for note in notes:
            told = self._told.setdefault(note.kind, set())
            if len(told) > _SHOWN or note.text in told:
                continue
            told.add(note.text)
            if len(told) <= _SHOWN:
                logger.warning("%s", note.text)
            else:
                logger.warning("more images have such a fault (%s): msdet check names them all", note.kind)

    def _log_shares(self) -> None:
        shard = self._shard
        whole = shard.batch_size * shard.group_size
        if shard.training and shard.count < whole:
            logger.warning(
                "%d images are fewer than one step takes (%d): %d of them repeat in every step",
                *(shard.count, whole, shard.repeated),
            )
        elif shard.dropped:
            logger.info("%d of %d images wait for another epoch: the last step is not full", shard.dropped, shard.count)
        elif shard.repeated:
            logger.info("%d images repeat in every epoch to fill the last step", shard.repeated)


def _check_ranges(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise UsageError(f"{name} is {value}: it must be at least 1")
