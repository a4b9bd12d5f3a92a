"""Ctrl-C in a program whose libraries install their own SIGINT handlers."""

from __future__ import annotations

import _thread
import signal
import threading


def handle_interrupts() -> None:
    """Delivers every SIGINT of this process to Python's handler, whatever handler a library has installed.

    MindSpore installs one while a graph runs, which terminates the process like SIGTERM. SIGINT is blocked in this
    thread and all threads started later, and one thread waits for it. To be called before a library starts threads.
    Child processes do not receive Ctrl-C.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    threading.Thread(target=_wait, name="interrupts", daemon=True).start()


def _wait() -> None:
    while True:
        signal.sigwait({signal.SIGINT})
        _thread.interrupt_main(signal.SIGINT)
