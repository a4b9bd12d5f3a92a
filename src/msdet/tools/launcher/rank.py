"""Runs one rank of a job and notes what becomes of it; the launcher starts it, by itself or through msrun or mpirun.

    python src/msdet/tools/launcher/rank.py NOTES LOG SCRIPT [ARGUMENTS ...]

NOTES is a folder. The rank's number R comes from RANK_ID or Open MPI's variable. The script writes to LOG, where {rank}
stands for R; NOTES/rank_R.json holds the process numbers and, at the end, exit code and time; NOTES/beat_R is touched
by the training and evaluation loops as they go on.

It uses the standard library alone and is run as a file, so that it costs nothing beside the process that it watches.
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


def end_with_parent() -> None:
    """Lets this process be asked to end (SIGTERM) when the one that started it is gone, which cannot watch it then."""
    with suppress(OSError, AttributeError):  # Linux alone has it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def main(argv: Sequence[str]) -> int:
    folder, pattern, *command = argv
    command = [sys.executable, *command]
    if os.environ.get("MS_ROLE") == "MS_SCHED":
        # msrun's scheduler runs the same command line; it joins the ranks and computes nothing.
        os.execv(command[0], command)
    end_with_parent()
    rank = rank_number()
    notes = Path(folder)
    touch_heartbeat = notes / f"beat_{rank}"
    touch_heartbeat.touch()
    log = Path(pattern.replace("{rank}", str(rank)))
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "RANK_HEARTBEAT_FILE": str(touch_heartbeat), "PYTHONUNBUFFERED": "1"},
            preexec_fn=end_with_parent,
        )

    def forward(number: int, frame: FrameType | None) -> None:
        if child.poll() is None:
            child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, forward)
    note = {"rank": rank, "pids": [os.getpid(), child.pid], "log": str(log)}
    write(notes / f"rank_{rank}.json", note)
    code = child.wait()
    write(notes / f"rank_{rank}.json", {**note, "exit": code, "time": time.time()})
    return code if code >= 0 else 128 - code


def write(path: Path, note: dict) -> None:
    """Writes a note that is whole or absent."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(note), encoding="utf-8")
    beside.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
