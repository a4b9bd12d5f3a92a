"""The launcher with small substitutes for the training: ranks that succeed, fail, vanish or stall."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from msdet.tools.launcher import plan as launch_plan
from msdet.tools.launcher import watch as launch_watch
from msdet.tools.launcher.plan import make_plan

ROOT = Path(__file__).resolve().parents[3]

# Four steps; then rank 1 fails as MODE says, unless the run is resumed, and the others wait for it forever.
TRAINING = """
import os, subprocess, sys, time
rank, mode = os.environ["RANK_ID"], os.environ.get("MODE", "")
if os.environ.get("MS_ROLE") == "MS_SCHED":
    sys.exit(0)
print("rank", rank, "of", os.environ["RANK_SIZE"], flush=True)
for step in range(40 if mode == "talk" else 4):
    time.sleep(0.02)
    os.utime(os.environ["RANK_HEARTBEAT_FILE"])
    print("step", step, flush=True)
# Rank 1 waits until rank 0 has come this far.
open(os.environ["RANK_HEARTBEAT_FILE"] + ".done", "w").close()
other = os.environ["RANK_HEARTBEAT_FILE"].replace("heartbeat_1", "heartbeat_0") + ".done"
while not os.path.exists(other):
    time.sleep(0.02)
if mode and "--resume=auto" not in sys.argv:
    if mode == "leave":
        # A process whose parent has ended; its command line contains the script, so that the fixture finds it.
        left = f"import time; time.sleep(1000)  # {__file__} {rank}"
        begin = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {left!r}])"
        subprocess.run([sys.executable, "-c", begin])
    if rank == "1":
        if mode in ("die", "talk", "leave"):
            sys.exit("error: broken")
        if mode == "usage":
            sys.exit(2)
        if mode == "kill":
            os.kill(os.getpid(), 9)
        if mode == "orphan":
            os.kill(os.getppid(), 9)
    while mode == "stall" and rank == "0" and time.sleep(0.1) is None:
        os.utime(os.environ["RANK_HEARTBEAT_FILE"])
    time.sleep(1000)
"""


# Like msrun, but without the import of MindSpore: starts the ranks, each in its own session, and waits for all.
MSRUN = """#!/bin/bash
while [[ $1 == --* ]]; do [[ $1 == --local_worker_num=* ]] && count=${1#*=}; shift; done
export RANK_SIZE=$count
for ((rank = 0; rank < count; rank++)); do RANK_ID=$rank setsid python "$@" & done
wait
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Runs the substitute as a training with two ranks; returns the exit code."""
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    msrun = tmp_path / "msrun"
    msrun.write_text(MSRUN)
    msrun.chmod(0o755)
    monkeypatch.setattr(launch_watch, "POLL_INTERVAL", 0.05)
    monkeypatch.setattr(launch_watch, "FAILURE_TIMEOUT", 1.0)

    def run(mode: str, *options: str, is_real: bool = False) -> int:
        monkeypatch.setenv("MODE", mode)
        if not is_real:
            monkeypatch.setattr(launch_plan, "_msrun", lambda: str(msrun))
        plan = make_plan("run_distribute_train", ["yolov3", "data", "w.ckpt", "--device_num", "2", *options], tmp_path)
        return launch_watch.run(replace(plan, entry=(str(script), *plan.entry[1:])))

    yield run
    deadline = time.monotonic() + 20
    while str(script) in subprocess.run(["ps", "axww"], capture_output=True, text=True, check=True).stdout:
        assert time.monotonic() < deadline, "a process is still running"
        time.sleep(0.1)


def log(tmp_path: Path, rank: int) -> str:
    return (tmp_path / f"train_parallel{rank}" / "log.txt").read_text()


def test_all_ranks_succeed(start, tmp_path, capfd):
    assert start("") == 0
    shown = capfd.readouterr()
    assert "rank 0 of 2" in shown.out and "rank 1" not in shown.out and not shown.err
    assert "rank 1 of 2" in log(tmp_path, 1) and "step 3" in log(tmp_path, 1)
    assert start("") == 0
    assert (tmp_path / "train_parallel0" / "log.1.txt").exists(), "the log of the first job is kept"


ENDS = {
    "die": (1, "rank 1 failed first: it exited with code 1"),
    "usage": (2, "rank 1 failed first: it exited with code 2"),
    "kill": (137, "rank 1 failed first: it was killed by SIGKILL"),
    "orphan": (1, "rank 1 failed first: it vanished"),
    # The fixture checks that no process remains.
    "leave": (1, "rank 1 failed first: it exited with code 1"),
}


@pytest.mark.parametrize("mode", ENDS)
def test_failed_rank_ends_the_job(start, tmp_path, capfd, mode):
    code, reason = ENDS[mode]
    assert start(mode) == code
    message = capfd.readouterr().err
    assert f"{reason}. The end of {tmp_path}/train_parallel1/log.txt:\n" in message and "  step 3\n" in message


def test_last_thirty_lines_are_printed(start, capfd):
    assert start("talk") == 1
    lines = capfd.readouterr().err.splitlines()[1:]
    assert len(lines) == 30 and lines[-1] == "  error: broken" and lines[0] == "  step 11"


def test_stalled_rank_ends_the_job(start, capfd):
    assert start("stall", "--stall_timeout", "1.5") == 1
    assert "rank 1 failed first: it made no step for 1.5 s" in capfd.readouterr().err


def test_restart_resumes(start, tmp_path, capfd):
    assert start("kill", "--max_restarts", "2") == 0
    shown = capfd.readouterr()
    assert "restart 1 of 2" in shown.err and "restart 2" not in shown.err
    assert shown.out.count("step 3") == 2 and log(tmp_path, 1).count("step 3") == 2


def test_usage_error_is_not_restarted(start, capfd):
    assert start("usage", "--max_restarts", "2") == 2
    assert "restart" not in capfd.readouterr().err


def test_real_msrun(start, tmp_path, capfd):
    """The real msrun sets the environment of the ranks."""
    assert start("die", is_real=True) == 1
    assert "rank 1 failed first: it exited with code 1" in capfd.readouterr().err
    assert "rank 0 of 2" in log(tmp_path, 0)


def test_mpirun(start, tmp_path, monkeypatch):
    """A substitute for Open MPI that starts and numbers the processes in the same way."""
    mpirun = tmp_path / "bin" / "mpirun"
    mpirun.parent.mkdir()
    mpirun.write_text(
        '#!/bin/bash\n[ "$1 $2 $3" = "--allow-run-as-root -n 2" ] || exit 3\nshift 3\nexport RANK_SIZE=2\n'
        'RANK_ID=0 OMPI_COMM_WORLD_RANK=0 "$@" & RANK_ID=1 OMPI_COMM_WORLD_RANK=1 "$@" & wait\n'
    )
    mpirun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{mpirun.parent}:{os.environ['PATH']}")
    assert start("", "--launcher", "mpirun") == 0
    assert "rank 1 of 2" in log(tmp_path, 1)
    mpirun.unlink()
    monkeypatch.setenv("PATH", str(mpirun.parent))
    from msdet.errors import UserError

    with pytest.raises(UserError, match="mpirun cannot be started"):
        start("", "--launcher", "mpirun")
    monkeypatch.undo()


# A training that prints when it is stopped, and then behaves as MODE says.
PATIENT = """
import os, signal, subprocess, sys, time
mode = os.environ.get("MODE", "")
def stop(number, frame):
    print("saved", flush=True)
    if mode != "slow":
        sys.exit(128 + number)
signal.signal(signal.SIGTERM, stop)
if mode == "child":
    child = subprocess.Popen([sys.executable, "-c", "import signal, time\\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\\ntime.sleep(100)"])
    print("child", child.pid, flush=True)
print("running", os.getpid(), flush=True)
while not os.path.exists("go"):
    time.sleep(0.05)
"""


def launcher(folder, mode="", ignored=()):
    """Starts a real launcher with one rank."""
    script = folder / "training.py"
    script.write_text(PATIENT)
    program = (
        "import signal, sys; from dataclasses import replace; from pathlib import Path\n"
        "from msdet.errors import run_command\n"
        # The tests themselves may run under nohup.
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        f"for number in {[int(n) for n in ignored]}: signal.signal(number, signal.SIG_IGN)\n"
        "from msdet.tools.launcher import watch as launch_watch; from msdet.tools.launcher.plan import make_plan\n"
        f"plan = make_plan('run_standalone_train', ['yolov3', 'd', 'w'], Path({str(folder)!r}))\n"
        f"plan = replace(plan, entry=({str(script)!r},))\n"
        "sys.exit(run_command(lambda _: launch_watch.run(plan), []))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "MODE": mode},
    )  # fmt: skip
    return process


def pid_in(line):
    return int(line.split()[1])


def wait_until_gone(pid):
    deadline = time.monotonic() + 30
    while launch_watch._is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is still running"
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stop_signal_is_forwarded(tmp_path, number):
    """To the training as SIGTERM; the exit code is that of the received signal."""
    process = launcher(tmp_path)
    training = pid_in(process.stdout.readline())
    process.send_signal(number)
    rest, _ = process.communicate(timeout=60)
    assert rest == "saved\n" and process.returncode == 128 + number
    wait_until_gone(training)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_second_signal_ends_the_wait(tmp_path, number):
    process = launcher(tmp_path, "slow")
    training = pid_in(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "saved\n"
    process.send_signal(number)
    # Much less than the time for saving a checkpoint.
    process.communicate(timeout=launch_watch.STOP_TIMEOUT / 2)
    assert process.returncode == 130
    wait_until_gone(training)


def test_hangup_is_ignored_under_nohup(tmp_path):
    process = launcher(tmp_path, ignored=(signal.SIGHUP,))
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    (tmp_path / "go").touch()
    rest, _ = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, "")


def test_orphaned_workers_are_killed(tmp_path):
    """A worker that ignores SIGTERM and has lost its parent."""
    process = launcher(tmp_path, "child")
    worker = pid_in(process.stdout.readline())
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    wait_until_gone(worker)


def test_training_stops_with_a_killed_launcher(tmp_path):
    process = launcher(tmp_path)
    training = pid_in(process.stdout.readline())
    process.kill()
    process.communicate(timeout=60)
    wait_until_gone(training)
    assert (tmp_path / "train" / "log.txt").read_text().endswith("saved\n")


def test_second_job_in_the_same_folder_is_rejected(tmp_path):
    first = launcher(tmp_path)
    training = first.stdout.readline()
    second = launcher(tmp_path)
    _, error = second.communicate(timeout=60)
    assert second.returncode == 1
    assert f"log.txt is the log of a running job (process {first.pid} on " in error
    assert "start this one in another folder" in error
    (tmp_path / "go").touch()
    rest, error = first.communicate(timeout=60)
    assert (first.returncode, rest, error) == (0, "", "")
    # Its log is unchanged; the next job renames it.
    assert (tmp_path / "train" / "log.txt").read_text() == training
    assert not (tmp_path / "train" / "log.1.txt").exists()
    third = launcher(tmp_path)
    third.communicate(timeout=60)
    assert third.returncode == 0 and (tmp_path / "train" / "log.1.txt").read_text() == training


def test_status_files_of_another_job_are_ignored(start, tmp_path, monkeypatch):
    """Status files of a job whose launcher was killed, which say that its ranks have succeeded."""
    status_folder = tmp_path / "train_parallel0" / "launch"
    make = launch_watch._Attempt.__init__

    def with_foreign_status(self, plan, *others):
        for folder in (status_folder, status_folder / "attempt_1"):
            folder.mkdir(parents=True, exist_ok=True)
            for rank in (0, 1):
                (folder / f"rank_{rank}.json").write_text(f'{{"rank": {rank}, "pids": [1], "exit": 0, "time": 1}}')
        make(self, plan, *others)

    monkeypatch.setattr(launch_watch._Attempt, "__init__", with_foreign_status)
    assert start("die") == 1


def test_jobs_started_in_the_same_second_have_different_runs(tmp_path):
    program = (
        "from pathlib import Path; from msdet.tools.launcher.plan import make_plan\n"
        f"print(make_plan('run_standalone_train', ['yolov3', 'd', 'w'], Path({str(tmp_path)!r})).entry)"
    )
    entries = {
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(entries) == 2


def test_connection_warnings_are_not_printed(tmp_path, capsys):
    log = tmp_path / "log.txt"
    follower = launch_watch._LogFollower(log)
    follower.copy()
    noise = "[WARNING] DISTRIBUTED(1,7f): Connection 13\n"
    shown = ""
    for piece in (
        "a\n",
        noise,
        "10%\r20%\r",
        "\n[WARN",
        "ING] DISTRI",
        "BUTED(2): half",
        " a line\n[WARNING] ME(3): other\n",
        "[W",
        "hy\n",
    ):
        with log.open("a") as file:
            file.write(piece)
        follower.copy()
        shown += capsys.readouterr().out
    assert shown == "a\n10%\r20%\r\n[WARNING] ME(3): other\n[Why\n"
    assert noise in log.read_text()
