"""What a signal does to a training: at once where it waits, with a checkpoint where it trains."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# `busy` computes for minutes in one instruction of Python, without the interpreter's lock, as a compile does.
PROGRAM = """
import logging, signal, sys, time
from msdet.runtime.stop import StopRequest
logging.basicConfig(format="%(message)s", stream=sys.stdout)

def say(text):
    print(text, flush=True)

# The tests themselves may run under nohup.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
{before}
with StopRequest().by_signals() as stop:
    stop.is_polled = bool("{begun}")
    say("ready")
    end = time.monotonic() + 60
    while time.monotonic() < end and ("{busy}" or not stop.is_made()):
        if "{busy}":
            import hashlib
            hashlib.pbkdf2_hmac("sha256", b"a", b"b", 300_000_000)
        time.sleep(0.01)
    say("saved")
sys.exit(stop.exit_code)
"""


def start(begun=True, busy=False, before=""):
    program = PROGRAM.format(begun="x" if begun else "", busy="x" if busy else "", before=before)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("begun", [True, False])
def test_a_signal_ends_the_run_with_its_code(number, begun):
    process = start(begun)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"{number.name}: stopping" in output
    # Before the training there is nothing to save.
    assert ("saved" in output) == begun


def test_under_nohup_a_closed_terminal_ends_nothing():
    process = start(before="signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143 and "SIGHUP" not in output


def test_what_was_heard_is_said_however_slow_the_listener_is():
    """The process ends by itself before the thread has its turn."""
    process = start(before="log = logging.getLogger('msdet.runtime.stop')\n"
                           "log.addFilter(lambda record: time.sleep(0.5) or True)")  # fmt: skip
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143 and "SIGTERM: stopping" in output


def test_a_second_ctrl_c_ends_it_at_once_whatever_it_waits_for():
    process = start(busy=True)
    process.send_signal(signal.SIGINT)
    assert "press Ctrl-C again to stop now" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "saved" not in output


def test_handlers_are_put_back():
    from msdet.runtime.stop import StopRequest

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), signal.set_wakeup_fd(-1)
    with StopRequest().by_signals():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), signal.set_wakeup_fd(-1)) == before


def test_an_interrupt_stays_one_where_a_library_has_its_own_handler():
    """MindSpore's, while a graph runs, sends SIGTERM on; here SIGINT would not be heard at all."""
    program = """
        import ctypes, os, signal, sys, threading, time
        from msdet.runtime.interrupts import handle_interrupts
        handle_interrupts()
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        from msdet.runtime.stop import StopRequest
        with StopRequest().by_signals() as stop:
            ctypes.CDLL(None).signal(int(signal.SIGINT), ctypes.c_void_p(signal.SIG_IGN))
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)
            print("not heard")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (130, "")
