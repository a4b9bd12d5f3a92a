"""Worker processes that write whole batches into a ring buffer of shared memory.

The main process owns the ring: it assigns a slot and a batch to a worker, and receives the boxes of the batch through a
pipe; pixels are never copied. Each worker has its own pipe, so that a worker that dies holds no lock that others need.
The memory is anonymous: the system frees it when the processes end, however they end.
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

from msdet.data.loading.batch import BatchMaker, BatchTargets, BatchTask
from msdet.errors import UserError

# Images named in an error message.
_SHOWN = 4
# Seconds for a worker to finish its batch after a stop request, before it is killed.
_STOP_TIMEOUT = 2.0
# Seconds between two polls while waiting, and between two warnings about it.
_POLL_INTERVAL, _WARNING_INTERVAL = 0.5, 5.0

log = logging.getLogger(__name__)


class Stopped(Exception):
    """The wait for a batch was stopped by `is_stopped`."""


class WorkersLost(UserError):
    """A worker died or does not respond: the pool cannot be used any more."""


@dataclass
class WorkerFailure:
    """An error in a worker: the error itself if it is a `UserError`, otherwise the traceback as text."""

    error: UserError | None
    trace: str = ""


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    tickets: list[int] = field(default_factory=list)


class WorkerPool:
    """Processes that fill the slots of the ring buffer.

    Args:
        maker: makes the batches; it is pickled once.
        num_workers: number of processes, at least 1.
        slots: number of batches in the ring.
        slot_bytes: size of the largest batch.
        stall_timeout: seconds to wait for a result before an error is raised.
    """

    def __init__(self, maker: BatchMaker, num_workers: int, slots: int, slot_bytes: int, stall_timeout: float) -> None:
        self._maker = maker
        self._stall_timeout = stall_timeout
        self._slot_bytes = slot_bytes
        self._free = list(range(slots))
        self._tasks: dict[int, tuple[int, BatchTask]] = {}
        self._results: dict[int, BatchTargets | WorkerFailure] = {}
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
        """Whether `submit` returns without waiting."""
        return bool(self._free)

    def submit(self, task: BatchTask, is_stopped: Callable[[], bool] = lambda: False) -> int:
        """Assigns a task and a free slot to the least busy worker; waits for a slot if there is none.

        Returns:
            The ticket to collect the batch with.

        Raises:
            WorkersLost: no slot became free.
            Stopped: `is_stopped` returned True while waiting.
        """
        self._wait_until(lambda: bool(self._free and self._workers), "no slot of the ring became free", is_stopped)
        slot = self._free.pop()
        ticket = next(self._tickets)
        worker = min(self._workers, key=lambda candidate: len(candidate.tickets))
        self._tasks[ticket] = (slot, task)
        worker.tickets.append(ticket)
        # If the worker has just died, `collect` detects it.
        with contextlib.suppress(OSError):
            worker.connection.send((ticket, slot, task))
        return ticket

    def collect(
        self, ticket: int, is_stopped: Callable[[], bool] = lambda: False
    ) -> tuple[int, np.ndarray, BatchTargets]:
        """Waits for a task; returns its slot, which the caller must release, its images and its targets.

        Raises:
            UserError: raised in the worker.
            WorkersLost: the worker died, or did not respond within `stall_timeout` seconds.
            RuntimeError: any other error in the worker, with its traceback.
            Stopped: `is_stopped` returned True while waiting.
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
        """Returns a slot to the ring."""
        self._free.append(slot)

    def abandon(self, tickets: Iterable[int]) -> None:
        """Discards tasks: their slots become free when the workers have finished them."""
        for ticket in tickets:
            if self._results.pop(ticket, None) is not None:
                self.release(self._tasks.pop(ticket)[0])
            elif ticket in self._tasks:
                self._abandoned.add(ticket)

    def _wait_until(self, done: Callable[[], bool], pending: str, is_stopped: Callable[[], bool]) -> None:
        start = last_warning = time.monotonic()
        while not done():
            now = time.monotonic()
            left = start + self._stall_timeout - now
            if left <= 0:
                raise WorkersLost(
                    f"the data workers returned nothing for {self._stall_timeout:g} s; {pending}. Does the disk "
                    "respond? Increase --data_timeout to wait longer; --num_parallel_workers=0 reads without workers"
                )
            if is_stopped():
                raise Stopped
            if now - last_warning > _WARNING_INTERVAL:
                last_warning = now
                log.warning("waiting for data for %.0f s: does the disk respond? %s", now - start, pending)
            self._receive(min(left, _POLL_INTERVAL))

    def _receive(self, timeout: float) -> None:
        """Waits for a result of any worker, or for the end of one."""
        if not self._workers:
            raise RuntimeError("the loader was closed: start a new epoch")
        connections = [worker.connection for worker in self._workers]
        sentinels = [worker.process.sentinel for worker in self._workers]
        ready = set(wait([*connections, *sentinels], timeout))
        for worker in self._workers:
            has_ended = worker.process.sentinel in ready
            if (worker.connection in ready or has_ended) and not self._drain(worker):
                has_ended = True
            if has_ended:
                raise WorkersLost(self._death_message(worker))

    def _drain(self, worker: _Worker) -> bool:
        """Receives the results of a worker; False if its end of the pipe is closed."""
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

    def _death_message(self, worker: _Worker) -> str:
        worker.process.join(_STOP_TIMEOUT)
        code = worker.process.exitcode
        how = f"exit code {code}"
        if code is not None and code < 0:
            how += f", {signal.Signals(-code).name}"
        pending = f"; {self._describe(worker.tickets[0])}" if worker.tickets else ""
        remedy = ". Usually the system ran out of memory: lower num_parallel_workers or per_batch_size"
        return f"a data worker died ({how}){pending}{remedy if code == -signal.SIGKILL else ''}"

    def _describe(self, ticket: int) -> str:
        _, task = self._tasks[ticket]
        paths = [str(self._maker.dataset.samples[index].image_path) for index in task.indices[:_SHOWN].tolist()]
        more = f" and {len(task.indices) - _SHOWN} more" if len(task.indices) > _SHOWN else ""
        return f"pending: batch {task.number} of epoch {task.epoch} with the images {', '.join(paths)}{more}"

    def close(self) -> None:
        """Stops all workers: by request, after a timeout by force. Can be called repeatedly."""
        workers, self._workers = self._workers, []
        for worker in workers:
            with contextlib.suppress(OSError):
                worker.connection.send(None)
            worker.connection.close()
        deadline = time.monotonic() + _STOP_TIMEOUT
        for worker in workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
        for stop in (BaseProcess.terminate, BaseProcess.kill):
            for worker in workers:
                if worker.process.is_alive():
                    stop(worker.process)
                    worker.process.join(_STOP_TIMEOUT)
        for worker in workers:
            # A process blocked in a system call (disk I/O) cannot be killed.
            with contextlib.suppress(ValueError):
                worker.process.close()


def _anonymous_memory(size: int) -> int:
    """File descriptor of anonymous memory of `size` bytes that can be shared with other processes."""
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
    own_end, worker_end = context.Pipe(duplex=True)
    process = context.Process(
        target=_worker_main, args=(worker_end, payload, size, slot_bytes), name="data worker", daemon=True
    )
    with _hidden_main(payload), _interrupts_blocked():
        process.start()
    worker_end.close()
    with contextlib.suppress(OSError):
        send_handle(own_end, memory, process.pid)
    return _Worker(process, own_end)


@contextlib.contextmanager
def _hidden_main(payload: bytes) -> Iterator[None]:
    """Prevents a spawned process from importing the main script.

    A spawned process imports the main script and everything it imports. Workers do not need that, and a script without
    `if __name__ == "__main__"` would start itself recursively. Only transforms defined in the main script need it.
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
    """Blocks Ctrl-C in a process started here until it ignores it; in this process the signal is only delayed."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _worker_main(connection: Connection, payload: bytes, size: int, slot_bytes: int) -> None:
    """Main function of a worker: fills slots until it is stopped or the main process is gone."""
    # Ctrl-C reaches the whole process group; only the main process handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # There is one process per core already: threads of OpenCV would only compete.
    cv2.setNumThreads(1)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        memory = recv_handle(connection)
        ring = mmap.mmap(memory, size)
        os.close(memory)
        maker: BatchMaker = pickle.loads(payload)
        while (message := connection.recv()) is not None:
            ticket, slot, task = message
            connection.send((ticket, _make(maker, task, _slot_view(ring, slot, slot_bytes, task))))


def _make(maker: BatchMaker, task: BatchTask, images: np.ndarray) -> BatchTargets | WorkerFailure:
    try:
        return maker.make(task, images)
    except UserError as error:
        return WorkerFailure(error)
    except Exception:  # noqa: BLE001 - raised again in the main process
        return WorkerFailure(None, traceback.format_exc())
