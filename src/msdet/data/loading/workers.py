"""Worker processes that make whole batches into a ring of shared memory.

The main process owns the ring: it tells a worker which slot to fill with which batch, and gets the batch's boxes back
by pipe; the pixels are never copied. Each worker has a pipe of its own, so that one that dies holds no lock the others
wait for. The memory has no name: whatever happens to the processes, the system takes it back.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import mmap
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import recv_handle, send_handle

import cv2
import numpy as np

from msdet.data.loading.batch import BatchMaker, BatchTask, TargetsOf
from msdet.errors import UserError

# Images named in an error message.
_SHOWN = 4
# How long a worker may take to finish its batch when it is asked to stop, before it is stopped by force.
_PATIENCE = 2.0
# Seconds between two looks at whether waiting still makes sense, and before and between two lines that say so.
_SLICE, _SILENCE = 0.5, 5.0

log = logging.getLogger(__name__)


class Stopped(Exception):
    """Nobody wants the batch any more."""


class WorkersLost(UserError):
    """A worker died or does not answer: the pool is of no use any more."""


@dataclass
class WorkerFailure:
    """What went wrong in a worker: the error itself if it is the user's to mend, or the traceback as text."""

    error: UserError | None
    trace: str = ""


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    tickets: list[int] = field(default_factory=list)


class WorkerPool:
    """Processes that fill the slots of a ring.

    Args:
        maker: what the workers make batches with; it is pickled once.
        num_workers: processes, at least 1.
        slots: batches that fit into the ring.
        slot_bytes: size of the largest batch.
        stall_timeout: seconds without a result after which waiting ends in an error.
    """

    def __init__(self, maker: BatchMaker, num_workers: int, slots: int, slot_bytes: int, stall_timeout: float) -> None:
        self._maker = maker
        self._stall_timeout = stall_timeout
        self._slot_bytes = slot_bytes
        self._free = list(range(slots))
        self._tasks: dict[int, tuple[int, BatchTask]] = {}
        self._results: dict[int, TargetsOf | WorkerFailure] = {}
        self._abandoned: set[int] = set()
        self._tickets = itertools.count()
        self._workers: list[_Worker] = []
        memory = _anonymous_memory(slots * slot_bytes)
        try:
            self._ring = mmap.mmap(memory, slots * slot_bytes)
            payload = pickle.dumps(maker, protocol=pickle.HIGHEST_PROTOCOL)
            for _ in range(num_workers):
                self._workers.append(_start_worker(payload, memory, slots * slot_bytes, slot_bytes))
        except BaseException:
            self.close()
            raise
        finally:
            os.close(memory)

    @property
    def has_free_slot(self) -> bool:
        """True if `submit` would not wait."""
        return bool(self._free)

    def submit(self, task: BatchTask, is_stopped: Callable[[], bool] = lambda: False) -> int:
        """Gives a task and a free slot to the worker with least to do; waits for a slot if there is none.

        Returns:
            The ticket to collect the batch with.

        Raises:
            WorkersLost: no slot came free.
            Stopped: `is_stopped` says so while it waits.
        """
        self._wait_until(lambda: bool(self._free and self._workers), "no slot of the ring came free", is_stopped)
        slot = self._free.pop()
        ticket = next(self._tickets)
        worker = min(self._workers, key=lambda candidate: len(candidate.tickets))
        self._tasks[ticket] = (slot, task)
        worker.tickets.append(ticket)
        # A worker that has just died cannot take it; waiting for the ticket will tell.
        with contextlib.suppress(OSError):
            worker.connection.send((ticket, slot, task))
        return ticket

    def collect(self, ticket: int, is_stopped: Callable[[], bool] = lambda: False) -> tuple[int, np.ndarray, TargetsOf]:
        """Waits for a task; returns its slot, which the caller releases, its images, and what belongs to them.

        Raises:
            UserError: as in the worker.
            WorkersLost: the worker died, or did not answer within `stall_timeout` seconds.
            RuntimeError: a fault of the program in the worker, with the worker's traceback.
            Stopped: `is_stopped` says so while it waits.
        """
        self._wait_until(lambda: ticket in self._results, self._describe(ticket), is_stopped)
        slot, task = self._tasks.pop(ticket)
        result = self._results.pop(ticket)
        if isinstance(result, WorkerFailure):
            self.release(slot)
            if result.error is not None:
                raise result.error
            raise RuntimeError(f"a data worker failed:\n{result.trace}")
        return slot, _slot_view(self._ring, slot, self._slot_bytes, task), result

    def release(self, slot: int) -> None:
        """Gives a slot back to the ring."""
        self._free.append(slot)

    def abandon(self, tickets: Iterable[int]) -> None:
        """Gives up tasks whose batches nobody wants: their slots come free when they are done."""
        for ticket in tickets:
            if self._results.pop(ticket, None) is not None:
                self.release(self._tasks.pop(ticket)[0])
            elif ticket in self._tasks:
                self._abandoned.add(ticket)

    def _wait_until(self, done: Callable[[], bool], pending: str, is_stopped: Callable[[], bool]) -> None:
        start = said = time.monotonic()
        while not done():
            now = time.monotonic()
            left = start + self._stall_timeout - now
            if left <= 0:
                raise WorkersLost(
                    f"the data workers gave nothing for {self._stall_timeout:g} s; {pending}. Is the disk answering? "
                    "A longer --data_timeout waits longer, --num_parallel_workers=0 reads without workers"
                )
            if is_stopped():
                raise Stopped
            if now - said > _SILENCE:
                said = now
                log.warning("waiting for data for %.0f s: is the disk answering? %s", now - start, pending)
            self._receive(min(left, _SLICE))

    def _receive(self, timeout: float) -> None:
        """Waits once, for a result of any worker or the end of one."""
        if not self._workers:
            raise RuntimeError("the loader has been closed: ask it for a new epoch")
        connections = [worker.connection for worker in self._workers]
        sentinels = [worker.process.sentinel for worker in self._workers]
        ready = set(wait([*connections, *sentinels], timeout))
        for worker in self._workers:
            ended = worker.process.sentinel in ready
            if (worker.connection in ready or ended) and not self._drain(worker):
                ended = True
            if ended:
                raise WorkersLost(self._obituary(worker))

    def _drain(self, worker: _Worker) -> bool:
        """Takes over what a worker has sent; False if its end of the pipe is gone."""
        try:
            while worker.connection.poll():
                ticket, result = worker.connection.recv()
                worker.tickets.remove(ticket)
                if ticket in self._abandoned:
                    self._abandoned.remove(ticket)
                    self.release(self._tasks.pop(ticket)[0])
                else:
                    self._results[ticket] = result
        except (EOFError, OSError):
            return False
        return True

    def _obituary(self, worker: _Worker) -> str:
        worker.process.join(_PATIENCE)
        code = worker.process.exitcode
        how = f"exit code {code}"
        if code is not None and code < 0:
            how += f", {signal.Signals(-code).name}"
        pending = f"; {self._describe(worker.tickets[0])}" if worker.tickets else ""
        remedy = ". Usually memory ran out: lower num_parallel_workers or per_batch_size"
        return f"a data worker died ({how}){pending}{remedy if code == -signal.SIGKILL else ''}"

    def _describe(self, ticket: int) -> str:
        _, task = self._tasks[ticket]
        paths = [str(self._maker.dataset.samples[index].image_path) for index in task.indices[:_SHOWN].tolist()]
        more = f" and {len(task.indices) - _SHOWN} more" if len(task.indices) > _SHOWN else ""
        return f"pending was batch {task.number} of epoch {task.epoch} with the images {', '.join(paths)}{more}"

    def close(self) -> None:
        """Ends all workers: asks, waits a moment, then stops them by force. May be called again."""
        workers, self._workers = self._workers, []
        for worker in workers:
            with contextlib.suppress(OSError):
                worker.connection.send(None)
            worker.connection.close()
        deadline = time.monotonic() + _PATIENCE
        for worker in workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
        for stop in (BaseProcess.terminate, BaseProcess.kill):
            for worker in workers:
                if worker.process.is_alive():
                    stop(worker.process)
                    worker.process.join(_PATIENCE)
        for worker in workers:
            # One that waits for a disk inside the system cannot be ended by anybody.
            with contextlib.suppress(ValueError):
                worker.process.close()


def _anonymous_memory(size: int) -> int:
    """File descriptor of nameless memory of `size` bytes, to be shared with other processes."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("batches", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


def _slot_view(ring: mmap.mmap, slot: int, slot_bytes: int, task: BatchTask) -> np.ndarray:
    shape = (len(task.indices), *task.size, 3)
    return np.ndarray(shape, np.uint8, buffer=ring, offset=slot * slot_bytes)


def _start_worker(payload: bytes, memory: int, size: int, slot_bytes: int) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=True)
    process = context.Process(target=_work, args=(theirs, payload, size, slot_bytes), name="data worker", daemon=True)
    with _hidden_main(payload), _interrupts_blocked():
        process.start()
    theirs.close()
    with contextlib.suppress(OSError):
        send_handle(ours, memory, process.pid)
    return _Worker(process, ours)


@contextlib.contextmanager
def _hidden_main(payload: bytes) -> Iterator[None]:
    """Keeps a spawned process from running the main script again.

    A spawned process imports the script it was started from, and with it whatever that imports; workers need none of
    it, and a script without `if __name__ == "__main__"` would start itself over and over. Only steps that are defined
    in the script itself need it.
    """
    if b"__main__" in payload:
        yield
        return
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Lets a spawned process be born deaf to Ctrl-C, which may come before it can ignore it; here it only waits."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(connection: Connection, payload: bytes, size: int, slot_bytes: int) -> None:
    """The life of a worker: fill slots until told to stop, or until the main process is gone."""
    # Ctrl-C reaches the whole process group; the main process decides what happens then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # One process a core already: threads of OpenCV would only compete.
    cv2.setNumThreads(1)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        memory = recv_handle(connection)
        ring = mmap.mmap(memory, size)
        os.close(memory)
        maker: BatchMaker = pickle.loads(payload)
        while (message := connection.recv()) is not None:
            ticket, slot, task = message
            connection.send((ticket, _make(maker, task, _slot_view(ring, slot, slot_bytes, task))))


def _make(maker: BatchMaker, task: BatchTask, images: np.ndarray) -> TargetsOf | WorkerFailure:
    try:
        return maker.make(task, images)
    except UserError as error:
        return WorkerFailure(error)
    except Exception:  # noqa: BLE001 - whatever it is, it is raised again where the batch is awaited
        return WorkerFailure(None, traceback.format_exc())
