"""Runs a plan: starts the processes, shows the log of the first rank, and ends all when one fails.

A rank that dies or stalls leaves the others waiting in a collective operation for minutes or for ever. So the launcher
watches the notes of `rank.py`: when a rank has failed, or has not moved on for `stall_timeout`, the others are ended,
the end of the log of the rank that failed first is shown, and the job ends or starts again from its newest checkpoint.

A job holds the folder of its notes: a second one in the same place is refused, since its logs would be mixed with those
of the first. Each attempt has notes of its own, so that only the processes of this attempt are believed.
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

from msdet.errors import UserError
from msdet.files import make_unique_folder, unique_number
from msdet.folder_lock import FolderInUse, FolderLock
from msdet.tools.launcher.plan import Command, Plan
from msdet.tools.launcher.rank import end_with_parent

POLL = 0.3
# Seconds between the request to end and the end by force: ranks that wait for a dead one cannot answer.
FAILURE_GRACE = 10.0
# A user's stop: the ranks finish their step and write a checkpoint.
STOP_GRACE = 90.0
# What msrun may need after its ranks have ended well, for its scheduler.
ENGINE_GRACE = 60.0
LINES = 30
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Exit codes after which another attempt makes no sense: typed wrongly, or asked to stop.
_FINAL = (2, *(128 + number for number in _STOPS))


@dataclass
class Outcome:
    """How an attempt ended: exit code, and for a failure which rank failed first and how."""

    code: int
    rank: int | None = None
    reason: str = ""


@dataclass
class _Stop:
    """Set by SIGTERM, SIGINT and SIGHUP of the launcher itself; the last is left alone where it is ignored (nohup).

    Attributes:
        number: of the first signal; 0 before one.
        count: signals so far: the second one ends the wait for the ranks.
    """

    number: int = 0
    count: int = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        def note(number: int, frame: FrameType | None) -> None:
            self.number = self.number or number
            self.count += 1

        heard = [n for n in _STOPS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
        previous = {number: signal.signal(number, note) for number in heard}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


# Lines of MindSpore about each connection between ranks: they tell a user nothing, and stay in the logs of the ranks.
_UNSHOWN = b"[WARNING] DISTRIBUTED("


@dataclass
class _Follower:
    """Copies what is added to a file to standard output, without the lines of `_UNSHOWN`."""

    path: Path
    position: int = 0

    def copy(self) -> None:
        try:
            with self.path.open("rb") as file:
                file.seek(self.position)
                lines = file.read().splitlines(keepends=True)
        except FileNotFoundError:
            return
        if lines and not lines[-1].endswith(b"\n") and _may_be_unshown(lines[-1]):
            # Its end is still to be written.
            lines.pop()
        self.position += sum(map(len, lines))
        shown = b"".join(line for line in lines if not line.startswith(_UNSHOWN))
        if shown:
            _say(sys.stdout, shown.decode("utf-8", errors="replace"))


def _may_be_unshown(beginning: bytes) -> bool:
    return beginning.startswith(_UNSHOWN) or _UNSHOWN.startswith(beginning)


def _say(stream: TextIO, text: str) -> None:
    """Writes to the terminal; one that was closed meanwhile (SIGHUP) ends no job."""
    with suppress(OSError):
        stream.write(text)
        stream.flush()


def run(plan: Plan) -> int:
    """Runs a plan, again after failures as often as it allows; returns the exit code.

    Raises:
        UserError: another job runs in the same place.
    """
    try:
        lock = FolderLock(plan.notes)
    except FolderInUse as error:
        raise UserError(
            f"{plan.log_of(plan.ranks[0])} is the log of a job that is running ({error}): wait for its end, or start "
            "this one in another folder"
        ) from None
    with lock:
        return _run(plan)


def _run(plan: Plan) -> int:
    _put_old_logs_aside(plan)
    stop = _Stop()
    follower = _Follower(plan.log_of(plan.ranks[0]))
    with stop.listening():
        for number in range(plan.options.max_restarts + 1):
            attempt = _Attempt(plan, stop, follower)
            outcome = attempt.run()
            if outcome.rank is not None:
                _say(sys.stderr, _report(attempt.plan, outcome.rank, outcome.reason))
            if not outcome.code or stop.number or outcome.code in _FINAL or not plan.is_training:
                break
            if number < plan.options.max_restarts:
                restarts = plan.options.max_restarts
                _say(sys.stderr, f"restart {number + 1} of {restarts}, from the newest checkpoint\n")
                plan = plan.resumed()
    return outcome.code


class _Attempt:
    """One start of all processes, with a folder of notes of its own in that of the plan."""

    def __init__(self, plan: Plan, stop: _Stop, follower: _Follower) -> None:
        self.earlier = [path for path in plan.notes.iterdir() if path.is_dir()]
        self.plan = replace(plan, notes=make_unique_folder(plan.notes, f"attempt_{unique_number()}"))
        self.stop, self.follower = stop, follower

    def run(self) -> Outcome:
        plan = self.plan
        for folder in self.earlier:
            shutil.rmtree(folder, ignore_errors=True)
        (plan.notes / "msrun").mkdir()
        self.started = time.time()
        self.process = _start(plan.command(), plan.start, plan.notes / "engine.log")
        try:
            outcome = self._watch()
        finally:
            self._end(STOP_GRACE if self.stop.number else FAILURE_GRACE)
            self.follower.copy()
        return outcome

    def _watch(self) -> Outcome:
        """Waits until all ranks have ended well, one has failed, or the launcher is asked to stop."""
        while True:
            self.follower.copy()
            engine_runs = self.process.poll() is None
            notes = self._notes()
            if self.stop.number:
                return Outcome(128 + self.stop.number)
            ended = [note for note in notes.values() if "exit" in note]
            failed = [note for note in ended if note["exit"]]
            if failed:
                return _failure(min(failed, key=lambda note: note["time"]))
            if len(ended) == len(self.plan.ranks):
                self._wait_for_engine()
                return Outcome(0)
            for rank, note in notes.items():
                if "exit" not in note and not _is_alive(note["pids"][0]) and "exit" not in self._note(rank):
                    return Outcome(1, rank, "vanished")
            if not engine_runs:
                # The notes were read before the engine was asked: look once more before calling it a failure.
                if all("exit" in self._note(rank) for rank in self.plan.ranks):
                    continue
                return Outcome(1, next((r for r in self.plan.ranks if r not in notes), None), "was not started")
            stalled = self._stalled(notes)
            if stalled is not None:
                return Outcome(1, stalled, f"made no step for {self.plan.options.stall_timeout:g} s")
            time.sleep(POLL)

    def _notes(self) -> dict[int, dict[str, Any]]:
        return {rank: note for rank in self.plan.ranks if (note := self._note(rank))}

    def _note(self, rank: int) -> dict[str, Any]:
        try:
            return json.loads((self.plan.notes / f"rank_{rank}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}

    def _stalled(self, notes: dict[int, dict[str, Any]]) -> int | None:
        """The rank that stands still for the longest time, if that is too long: the others wait for it."""
        beats = {}
        for rank in self.plan.ranks:
            if "exit" in notes.get(rank, {}):
                continue
            try:
                beats[rank] = (self.plan.notes / f"beat_{rank}").stat().st_mtime
            except FileNotFoundError:
                beats[rank] = self.started
        oldest = min(beats, key=beats.__getitem__)
        return oldest if time.time() - beats[oldest] > self.plan.options.stall_timeout else None

    def _wait_for_engine(self) -> None:
        deadline = time.monotonic() + ENGINE_GRACE
        while self.process.poll() is None and time.monotonic() < deadline:
            if self.stop.number:
                return
            time.sleep(POLL)

    def _end(self, grace: float) -> None:
        """Ends what still runs: first by request, then by force."""
        notes = [note for note in self._notes().values() if "exit" not in note]
        everything = {pid for note in notes for pid in note["pids"]} | self._descendants()
        if self.plan.engine == "msrun":
            # msrun would kill all ranks as soon as the first answers the request.
            self.process.kill()
        _signal([note["pids"][0] for note in notes], signal.SIGTERM)
        ranks = [pid for note in notes for pid in note["pids"]]
        signals = self.stop.count
        _wait(lambda: self.stop.count > signals or not any(map(_is_alive, ranks)), grace, self.follower.copy)
        _signal([pid for pid in everything if _is_alive(pid)], signal.SIGKILL)
        # Each of these leads a group of its own, which holds whatever else it started. The number of a rank that has
        # ended may be another process's by now, but not while its group has members.
        ended = [note["pids"][0] for note in self._notes().values() if "exit" in note]
        leaders = [*(note["pids"][0] for note in notes), *(pid for pid in ended if not _is_alive(pid))]
        for leader in [*leaders, self.process.pid]:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(leader, signal.SIGKILL)
        self.process.wait()

    def _descendants(self) -> set[int]:
        """All processes that ours has started and that still belong to it."""
        import psutil

        with suppress(psutil.NoSuchProcess):
            return {child.pid for child in psutil.Process(self.process.pid).children(recursive=True)}
        return set()


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
                preexec_fn=end_with_parent,
            )
        except OSError as error:
            raise UserError(f"{command.argv[0]} cannot be started: {error.strerror}") from error


def _failure(note: dict[str, Any]) -> Outcome:
    code = note["exit"]
    if code < 0:
        return Outcome(128 - code, note["rank"], f"was ended by {signal.Signals(-code).name}")
    return Outcome(code, note["rank"], f"ended with code {code}")


def _report(plan: Plan, rank: int, reason: str) -> str:
    log = plan.log_of(rank)
    lines = _last_lines(log)
    if not lines:
        log = plan.notes / "engine.log"
        lines = _last_lines(log)
    return f"rank {rank} failed first: it {reason}. The end of {log}:\n{''.join(lines)}"


def _last_lines(path: Path) -> Sequence[str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [f"  {line}\n" for line in text.splitlines()[-LINES:]]


def _put_old_logs_aside(plan: Plan) -> None:
    """Gives the logs of an earlier job another name: log.1.txt is the first of them."""
    for rank in plan.ranks:
        log = plan.log_of(rank)
        if log.exists():
            number = 1
            while (aside := log.with_name(f"{log.stem}.{number}{log.suffix}")).exists():
                number += 1
            log.rename(aside)
        log.parent.mkdir(parents=True, exist_ok=True)


def _is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def _signal(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _wait(done: Callable[[], bool], seconds: float, meanwhile: Callable[[], None]) -> None:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        meanwhile()
        time.sleep(POLL)
