"""The request to stop a run gracefully, and the signals that make it: SIGTERM, SIGINT, SIGHUP."""

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
# Seconds to wait for the last log lines of the listening thread.
_JOIN_TIMEOUT = 10.0


class StopRequest:
    """A request to stop at the next point where no work is lost.

    Long-running code polls `is_made` and stops gracefully. As long as `is_polled` is False there is nothing to save,
    and a request ends the process immediately.

    Attributes:
        exit_code: exit code of the process: 143, 130 or 129 after a signal, else 0.
        is_polled: whether some code polls `is_made`.
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
            SystemExit: `is_polled` is False.
        """
        self.exit_code = exit_code
        self._is_made = True
        if not self.is_polled:
            raise SystemExit(exit_code)

    @contextlib.contextmanager
    def by_signals(self) -> Iterator[StopRequest]:
        """A context in which signals make the request.

        SIGHUP, which a closing terminal sends, stays ignored if it is ignored (nohup).

        Python runs signal handlers only between bytecode instructions, possibly after a graph compilation of minutes.
        Therefore a thread is woken by each signal immediately: it logs the signal, and ends the process at the second
        SIGINT, whatever the main thread waits for. This is safe because files are written atomically.
        """
        # Only the main thread can set signal handlers.
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
            # The signals are logged before the process ends.
            listener.join(_JOIN_TIMEOUT)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.make(128 + number)


def _listen(reader: int) -> None:
    """Logs the signals whose numbers arrive in a pipe, until it is closed."""
    count = 0
    with open(reader, "rb", buffering=0) as pipe:
        while numbers := pipe.read(16):
            for number in numbers:
                if number not in _WATCHED:
                    continue
                count += 1
                if number == signal.SIGINT and count > 1:
                    os.write(2, b"stopped immediately by a second SIGINT\n")
                    os._exit(128 + signal.SIGINT)
                name = signal.Signals(number).name
                log.warning("%s: stopping after the current step or compilation; press Ctrl-C again to stop now", name)
