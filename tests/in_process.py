"""The commands, called as functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from src.errors import run_command


def run(main: Callable[[Sequence[str]], int], *args: object) -> int:
    """Exit code of a command in this process, its arguments as the command line would hand them over."""
    return run_command(main, [str(arg) for arg in args])
