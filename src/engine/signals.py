"""SIGTERM, SIGINT and SIGHUP end a training in order, with a checkpoint; a second SIGINT ends it at once."""

from __future__ import annotations

import logging
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from src.engine.hooks import Hook

if TYPE_CHECKING:
    from src.engine.trainer import Trainer

log = logging.getLogger(__name__)

_WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Seconds for the last words of the listening thread.
_LAST_WORDS = 10.0


class StopOnSignal(Hook):
    """Ends the run after the running step, with a checkpoint. A context manager around the whole command.

    Before the training has begun there is nothing to save, and the command ends as soon as Python has its turn. SIGHUP,
    which a terminal sends when it closes, is left alone where it is ignored, as under nohup.

    Python runs the handler of a signal between two of its own instructions, that is after a compile of minutes. A
    thread therefore learns of each signal at once: it says that the signal was heard, and a second SIGINT ends the
    process from there, whatever the main thread waits for. Files are whole or absent at every moment.

    Attributes:
        exit_code: 143, 130 or 129 after a signal, else 0.
    """

    def __init__(self) -> None:
        self.exit_code = 0
        self._trainer: Trainer | None = None
        self._previous: dict[int, Any] = {}
        self._writer = self._previous_writer = -1
        self._listener: threading.Thread | None = None

    def __enter__(self) -> StopOnSignal:
        # Only the main thread may say what happens at a signal.
        if threading.current_thread() is threading.main_thread():
            reader, self._writer = os.pipe()
            os.set_blocking(self._writer, False)
            self._previous_writer = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
            self._listener = threading.Thread(target=_listen, args=(reader,), name="signals", daemon=True)
            self._listener.start()
            for number in _WATCHED:
                if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                    continue
                self._previous[number] = signal.signal(number, self._stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler or signal.SIG_DFL)
        if self._writer >= 0:
            signal.set_wakeup_fd(self._previous_writer)
            os.close(self._writer)
            # What was heard is said before the process ends, however fast that is.
            self._listener.join(_LAST_WORDS)
        self._previous, self._writer = {}, -1

    def before_train(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.exit_code = 128 + number
        if self._trainer is None:
            raise SystemExit(self.exit_code)
        self._trainer.stop_requested = True


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
