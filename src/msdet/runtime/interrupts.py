"""Ctrl-C in a program whose libraries take SIGINT for themselves."""

from __future__ import annotations

import _thread
import signal
import threading


def handle_interrupts() -> None:
    """Takes every SIGINT of this process to Python's own handler, whatever handler a library has set.

    MindSpore sets one while a graph runs, which ends the process as by SIGTERM. Here SIGINT is blocked in this thread,
    and so in all that are started from now on, and one thread waits for it: to be called before a library starts
    threads. Processes that are started from here do not hear Ctrl-C.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    threading.Thread(target=_wait, name="interrupts", daemon=True).start()


def _wait() -> None:
    while True:
        signal.sigwait({signal.SIGINT})
        _thread.interrupt_main(signal.SIGINT)
