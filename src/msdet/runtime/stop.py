"""The request to end a run in order, and the signals that make it: SIGTERM, SIGINT, SIGHUP."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)

_WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Seconds for the last words of the listening thread.
_LAST_WORDS = 10.0


class StopRequest:
    """Whether this process is to end its work, at the next point where nothing is lost.

    It is handed to whatever works for long: that asks `is_made` again and again, and ends in order. Until somebody
    says so by `is_polled`, there is nothing to save, and a signal ends the process as soon as Python has its turn.

    Attributes:
        exit_code: of the process: 143, 130 or 129 after a signal, else 0.
        is_polled: somebody asks `is_made`.
    """

    def __init__(self) -> None:
        self.exit_code = 0
        self.is_polled = False
        self._is_made = False

    def is_made(self) -> bool:
        """Whether the request was made."""
        return self._is_made

    def make(self, exit_code: int = 0) -> None:
        """Makes the request.

        Raises:
            SystemExit: nobody heeds it.
        """
        self.exit_code = exit_code
        self._is_made = True
        if not self.is_polled:
            raise SystemExit(exit_code)

    @contextlib.contextmanager
    def by_signals(self) -> Iterator[StopRequest]:
        """Lets signals make the request, as long as the context is open.

        SIGHUP, which a terminal sends when it closes, is left alone where it is ignored, as under nohup.

        Python runs the handler of a signal between two of its own instructions, that is after a compile of minutes. A
        thread therefore learns of each signal at once: it logs that the signal was heard, and a second SIGINT ends the
        process from there, whatever the main thread waits for. Files are whole or absent at every moment.
        """
        # Only the main thread may say what happens at a signal.
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        previous_writer = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        listener = threading.Thread(target=_listen, args=(reader,), name="signals", daemon=True)
        listener.start()
        previous: dict[int, Any] = {}
        for number in _WATCHED:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue
            previous[number] = signal.signal(number, self._on_signal)
        try:
            yield self
        finally:
            for watched, handler in previous.items():
                signal.signal(watched, handler or signal.SIG_DFL)
            signal.set_wakeup_fd(previous_writer)
            os.close(writer)
            # What was heard is logged before the process ends, however fast that is.
            listener.join(_LAST_WORDS)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.make(128 + number)


def _listen(reader: int) -> None:
    """Reads the numbers of signals until the pipe is closed."""
    heard = 0
    with open(reader, "rb", buffering=0) as pipe:
        while numbers := pipe.read(16):
            for number in numbers:
                if number not in _WATCHED:
                    continue
                heard += 1
                if number == signal.SIGINT and heard > 1:
                    os.write(2, b"ended at once by a second SIGINT\n")
                    os._exit(128 + signal.SIGINT)
                name = signal.Signals(number).name
                log.warning("%s: stopping after the running step or compile; a second Ctrl-C ends it at once", name)
