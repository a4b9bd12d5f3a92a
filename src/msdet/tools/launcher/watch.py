"""Runs a plan: starts the ranks, prints the log of the first one, stops all if one fails, and restarts the training.

msrun kills all ranks when one fails or on Ctrl-C, so none can save a checkpoint; it detects no stalled rank, does not
tell which rank failed first, and leaves the ranks running when it is killed itself. So the launcher watches the status
files of `rank.py`, also with mpirun or a single process: when a rank has failed, or has made no step for
`stall_timeout`, it stops the others, prints the end of the log of the rank that failed first, and ends the job or
restarts it from its newest checkpoint.

A job locks its status folder: a second job with the same log files is rejected. Each attempt has a subfolder of its
own, so that status files of other attempts are ignored.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import psutil

from msdet.errors import UserError
from msdet.files import make_unique_folder, unique_number
from msdet.folder_lock import FolderInUse, FolderLock
from msdet.tools.launcher.plan import Command, Plan
from msdet.tools.launcher.rank import stop_with_parent

# All times in seconds.
POLL_INTERVAL = 0.3
# From SIGTERM to SIGKILL after a failure: ranks that wait for a dead one cannot respond.
FAILURE_TIMEOUT = 10.0
# From SIGTERM to SIGKILL after a stop by the user: the ranks finish their step and write a checkpoint.
STOP_TIMEOUT = 90.0
# For msrun to end its scheduler after its ranks have succeeded.
ENGINE_TIMEOUT = 60.0
# Lines of a log that are printed after a failure.
LINES = 30
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Exit codes after which there is no restart: wrong arguments, or stopped.
_FINAL_CODES = (2, *(128 + number for number in _STOP_SIGNALS))
# MindSpore warns about each connection between ranks: such lines stay in the logs and are not printed.
_HIDDEN = b"[WARNING] DISTRIBUTED("


@dataclass
class Outcome:
    """How an attempt ended: exit code, and for a failure the rank that failed first and the reason."""

    code: int
    rank: int | None = None
    reason: str = ""


@dataclass
class _StopRequest:
    """Set by SIGTERM, SIGINT and SIGHUP; SIGHUP only unless it is ignored, as under nohup.

    Attributes:
        number: of the first signal; 0 if there was none.
        count: number of signals; the second one ends the wait for the ranks.
    """

    number: int = 0
    count: int = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        def handle(number: int, frame: FrameType | None) -> None:
            self.number = self.number or number
            self.count += 1

        handled = [n for n in _STOP_SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
        previous = {number: signal.signal(number, handle) for number in handled}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


@dataclass
class _LogFollower:
    """Copies what is appended to a log file to standard output, except lines that start with `_HIDDEN`."""

    path: Path
    position: int = 0

    def copy(self) -> None:
        try:
            with self.path.open("rb") as file:
                file.seek(self.position)
                lines = file.read().splitlines(keepends=True)
        except FileNotFoundError:
            return
        if lines and not lines[-1].endswith(b"\n") and _may_be_hidden(lines[-1]):
            # Wait for the rest of the line.
            lines.pop()
        self.position += sum(map(len, lines))
        shown = b"".join(line for line in lines if not line.startswith(_HIDDEN))
        if shown:
            _print(sys.stdout, shown.decode("utf-8", errors="replace"))


def _may_be_hidden(start: bytes) -> bool:
    return start.startswith(_HIDDEN) or _HIDDEN.startswith(start)


def _print(stream: TextIO, text: str) -> None:
    """Writes to the terminal; a terminal that was closed (SIGHUP) is ignored."""
    with suppress(OSError):
        stream.write(text)
        stream.flush()


def run(plan: Plan) -> int:
    """Runs a plan, with restarts after failures; returns the exit code.

    Raises:
        UserError: another job with the same log files is running.
    """
    try:
        lock = FolderLock(plan.status_folder)
    except FolderInUse as error:
        raise UserError(
            f"{plan.log_path(plan.ranks[0])} is the log of a running job ({error}): wait for its end, or start this "
            "one in another folder"
        ) from None
    with lock:
        return _run(plan)


def _run(plan: Plan) -> int:
    _rename_old_logs(plan)
    stop = _StopRequest()
    follower = _LogFollower(plan.log_path(plan.ranks[0]))
    with stop.listening():
        for number in range(plan.options.max_restarts + 1):
            attempt = _Attempt(plan, stop, follower)
            outcome = attempt.run()
            if outcome.rank is not None:
                _print(sys.stderr, _failure_report(attempt.plan, outcome.rank, outcome.reason))
            if not outcome.code or stop.number or outcome.code in _FINAL_CODES or not plan.is_training:
                break
            if number < plan.options.max_restarts:
                restarts = plan.options.max_restarts
                _print(sys.stderr, f"restart {number + 1} of {restarts}, from the newest checkpoint\n")
                plan = plan.resumed()
    return outcome.code


class _Attempt:
    """One start of all processes, with its own status folder; removes those of earlier attempts."""

    def __init__(self, plan: Plan, stop: _StopRequest, follower: _LogFollower) -> None:
        for path in plan.status_folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
        self.plan = replace(plan, status_folder=make_unique_folder(plan.status_folder, f"attempt_{unique_number()}"))
        self.stop, self.follower = stop, follower

    def run(self) -> Outcome:
        plan = self.plan
        (plan.status_folder / "msrun").mkdir()
        self.started = time.time()
        self.process = _start(plan.command(), plan.working_folder, plan.status_folder / "engine.log")
        try:
            outcome = self._watch()
        finally:
            self._stop_processes(STOP_TIMEOUT if self.stop.number else FAILURE_TIMEOUT)
            self.follower.copy()
        return outcome

    def _watch(self) -> Outcome:
        """Waits until all ranks have succeeded, one has failed, or the launcher is stopped."""
        while True:
            self.follower.copy()
            engine_runs = self.process.poll() is None
            statuses = self._statuses()
            if self.stop.number:
                return Outcome(128 + self.stop.number)
            ended = [status for status in statuses.values() if "exit" in status]
            failed = [status for status in ended if status["exit"]]
            if failed:
                return _failure(min(failed, key=lambda status: status["time"]))
            if len(ended) == len(self.plan.ranks):
                _wait(lambda: self.process.poll() is not None or bool(self.stop.number), ENGINE_TIMEOUT)
                return Outcome(0)
            for rank, status in statuses.items():
                if "exit" not in status and not _is_alive(status["pids"][0]) and "exit" not in self._status(rank):
                    return Outcome(1, rank, "vanished")
            if not engine_runs:
                # A rank may have ended between the two checks: read its status again before calling it a failure.
                if all("exit" in self._status(rank) for rank in self.plan.ranks):
                    continue
                return Outcome(1, next((r for r in self.plan.ranks if r not in statuses), None), "was not started")
            stalled = self._stalled(statuses)
            if stalled is not None:
                return Outcome(1, stalled, f"made no step for {self.plan.options.stall_timeout:g} s")
            time.sleep(POLL_INTERVAL)

    def _statuses(self) -> dict[int, dict[str, Any]]:
        return {rank: status for rank in self.plan.ranks if (status := self._status(rank))}

    def _status(self, rank: int) -> dict[str, Any]:
        try:
            return json.loads((self.plan.status_folder / f"rank_{rank}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}

    def _stalled(self, statuses: dict[int, dict[str, Any]]) -> int | None:
        """The running rank with the oldest heartbeat, if that is older than the timeout: the others wait for it."""
        heartbeats = {}
        for rank in self.plan.ranks:
            if "exit" not in statuses.get(rank, {}):
                heartbeats[rank] = self.started
                with suppress(FileNotFoundError):
                    heartbeats[rank] = (self.plan.status_folder / f"heartbeat_{rank}").stat().st_mtime
        oldest = min(heartbeats, key=heartbeats.__getitem__)
        return oldest if time.time() - heartbeats[oldest] > self.plan.options.stall_timeout else None

    def _stop_processes(self, timeout: float) -> None:
        """Stops all running processes: by SIGTERM, after the timeout by SIGKILL."""
        running = [status["pids"] for status in self._statuses().values() if "exit" not in status]
        processes = _process_trees([self.process.pid, *(pid for pids in running for pid in pids)])
        if self.plan.engine == "msrun":
            # msrun would kill all ranks as soon as the first one has ended.
            self.process.kill()
        for wrapper, _ in running:
            with suppress(ProcessLookupError):
                os.kill(wrapper, signal.SIGTERM)
        signals = self.stop.count
        _wait(
            lambda: self.stop.count > signals or not any(_is_alive(pid) for pids in running for pid in pids),
            timeout,
            self.follower.copy,
        )
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        # These lead process groups, which contain whatever else they started. The pid of a rank that has ended may
        # belong to another process by now, but not while its group has members.
        ended = [status["pids"][0] for status in self._statuses().values() if "exit" in status]
        leaders = [*(wrapper for wrapper, _ in running), *(pid for pid in ended if not _is_alive(pid))]
        for leader in [*leaders, self.process.pid]:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(leader, signal.SIGKILL)
        self.process.wait()


def _start(command: Command, folder: Path, output: Path) -> subprocess.Popen:
    with output.open("ab") as file:
        try:
            return subprocess.Popen(
                command.argv,
                cwd=folder,
                env=command.full_environment(),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=stop_with_parent,
            )
        except OSError as error:
            raise UserError(f"{command.argv[0]} cannot be started: {error.strerror}") from error


def _failure(status: dict[str, Any]) -> Outcome:
    code = status["exit"]
    if code < 0:
        return Outcome(128 - code, status["rank"], f"was killed by {signal.Signals(-code).name}")
    return Outcome(code, status["rank"], f"exited with code {code}")


def _failure_report(plan: Plan, rank: int, reason: str) -> str:
    log = plan.log_path(rank)
    lines = _last_lines(log)
    if not lines:
        log = plan.status_folder / "engine.log"
        lines = _last_lines(log)
    return f"rank {rank} failed first: it {reason}. The end of {log}:\n{''.join(lines)}"


def _last_lines(path: Path) -> Sequence[str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [f"  {line}\n" for line in text.splitlines()[-LINES:]]


def _rename_old_logs(plan: Plan) -> None:
    """Renames the logs of earlier jobs to log.1.txt, log.2.txt, ... (the oldest is log.1.txt)."""
    for rank in plan.ranks:
        log = plan.log_path(rank)
        if log.exists():
            number = 1
            while (renamed := log.with_name(f"{log.stem}.{number}{log.suffix}")).exists():
                number += 1
            log.rename(renamed)
        log.parent.mkdir(parents=True, exist_ok=True)


def _process_trees(pids: Sequence[int]) -> list[psutil.Process]:
    """The processes with these ids and all their descendants."""
    processes = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            processes += [process, *process.children(recursive=True)]
    return processes


def _is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    return False


def _wait(is_done: Callable[[], bool], timeout: float, poll: Callable[[], None] = lambda: None) -> None:
    deadline = time.monotonic() + timeout
    while not is_done() and time.monotonic() < deadline:
        poll()
        time.sleep(POLL_INTERVAL)
