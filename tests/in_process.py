"""The commands, called as functions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from msdet.errors import run_command


def run(main: Callable[[Sequence[str]], int], *args: object) -> int:
    """Exit code of a command in this process, its arguments as the command line would hand them over."""
    with own_log():
        return run_command(main, [str(arg) for arg in args])


@contextmanager
def own_log() -> Iterator[None]:
    """Takes back the log that a command opens: it writes to a file, and to an output that is closed with its test."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.setLevel(level)
        for handler in root.handlers[:]:
            if handler not in before and type(handler) in (logging.StreamHandler, logging.FileHandler):
                root.removeHandler(handler)
                handler.close()
