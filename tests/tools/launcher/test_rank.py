"""One rank: its log, status file, exit code and signals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from msdet.tools.launcher import rank

RANK_PY = Path(rank.__file__)


def start(folder, code, **environment):
    script = folder / "script.py"
    script.write_text(code)
    return subprocess.Popen(
        [sys.executable, str(RANK_PY), str(folder), str(folder / "log{rank}" / "log.txt"), str(script), "--lr=1"],
        env={**os.environ, "RANK_ID": "3", **environment},
    )


def status(folder):
    return json.loads((folder / "rank_3.json").read_text())


@pytest.mark.parametrize(
    ("environment", "number"),
    [({}, 0), ({"RANK_ID": "2"}, 2), ({"RANK_ID": "2", "OMPI_COMM_WORLD_RANK": "1"}, 1), ({"RANK_ID": "x"}, 0)],
)
def test_rank_number(monkeypatch, environment, number):
    for name in ("RANK_ID", "OMPI_COMM_WORLD_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert rank.rank_number() == number


def test_log_and_exit_code(tmp_path):
    code = "import os, sys\nprint(sys.argv[1:], os.path.basename(os.environ['RANK_HEARTBEAT_FILE']))\nsys.exit(5)"
    before = time.time()
    assert start(tmp_path, code).wait(30) == 5
    assert (tmp_path / "log3" / "log.txt").read_text() == "['--lr=1'] heartbeat_3\n"
    assert (tmp_path / "heartbeat_3").exists()
    recorded = status(tmp_path)
    assert (recorded["rank"], recorded["exit"], len(recorded["pids"])) == (3, 5, 2)
    assert before <= recorded["time"] <= time.time()


def test_killed_script(tmp_path):
    assert start(tmp_path, "import os\nos.kill(os.getpid(), 9)").wait(30) == 137
    assert status(tmp_path)["exit"] == -9


def test_signals_are_forwarded(tmp_path):
    code = (
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n"
        "open(sys.path[0] + '/ready', 'w').close()\ntime.sleep(60)"
    )
    process = start(tmp_path, code)
    deadline = time.monotonic() + 30
    while not ((tmp_path / "ready").exists() and (tmp_path / "rank_3.json").exists()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 9 and status(tmp_path)["exit"] == 9


def test_scheduler_is_not_recorded(tmp_path):
    assert start(tmp_path, "import sys\nsys.exit(4)", MS_ROLE="MS_SCHED").wait(30) == 4
    assert not (tmp_path / "rank_3.json").exists()
