"""Runs one rank of a job and records its status; started by the launcher, directly or through msrun or mpirun.

    python src/msdet/tools/launcher/rank.py STATUS_FOLDER LOG SCRIPT [ARGUMENTS ...]

The number R of the rank comes from RANK_ID or the variable of Open MPI. The output of the script goes to LOG, in which
{rank} stands for R. STATUS_FOLDER/rank_R.json contains the process ids and, at the end, exit code and time;
STATUS_FOLDER/heartbeat_R is touched by the training and evaluation loops at each step.

Needed besides msrun because msrun does not report exit codes per rank, cannot write the log files of the old model zoo,
and forwards no signals. Uses only the standard library and runs as a file, to cost little memory and start-up time.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

_PR_SET_PDEATHSIG = 1


def rank_number() -> int:
    """The number of this process in the job."""
    for name in ("OMPI_COMM_WORLD_RANK", "RANK_ID"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 0


def stop_with_parent() -> None:
    """Makes the system send SIGTERM to this process when its parent has ended."""
    with suppress(OSError, AttributeError):  # Linux only
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def main(argv: Sequence[str]) -> int:
    folder, log_pattern, *command = argv
    command = [sys.executable, *command]
    if os.environ.get("MS_ROLE") == "MS_SCHED":
        # The scheduler of msrun runs the same command line; it connects the ranks and computes nothing.
        os.execv(command[0], command)
    stop_with_parent()
    rank = rank_number()
    status_file = Path(folder) / f"rank_{rank}.json"
    heartbeat = Path(folder) / f"heartbeat_{rank}"
    heartbeat.touch()
    log = Path(log_pattern.replace("{rank}", str(rank)))
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "RANK_HEARTBEAT_FILE": str(heartbeat), "PYTHONUNBUFFERED": "1"},
            preexec_fn=stop_with_parent,
        )

    def forward(number: int, frame: FrameType | None) -> None:
        if child.poll() is None:
            child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, forward)
    status = {"rank": rank, "pids": [os.getpid(), child.pid], "log": str(log)}
    write_status(status_file, status)
    code = child.wait()
    write_status(status_file, {**status, "exit": code, "time": time.time()})
    return code if code >= 0 else 128 - code


def write_status(path: Path, status: dict) -> None:
    """Writes a status file atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(status), encoding="utf-8")
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
