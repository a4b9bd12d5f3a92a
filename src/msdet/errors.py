"""Errors that are the user's to mend, and how a command reports them.

A programming error ends in a traceback. What a user typed or brought ends in one or two lines that name the file,
the place and the remedy.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence


class UserError(Exception):
    """Something outside the program is wrong, and the message says what to do about it.

    Args:
        message: one or two lines: the file, the place in it, the remedy.
    """

    exit_code = 1


class UsageError(UserError):
    """A flag or a configuration key is wrong: the command was typed wrongly, so it ends with exit code 2."""

    exit_code = 2


def _let_everything_be_printed() -> None:
    """Escapes letters that the terminal, or a name that is no UTF-8, has no code for, where Python would raise."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def run_command(main: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """Runs `main(argv)` and returns the exit code of the process.

    A `UserError` is printed as `error: ...` without a traceback, unless `--debug` is among the arguments.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    _let_everything_be_printed()
    debug = "--debug" in argv
    if debug:
        argv.remove("--debug")
    try:
        return main(argv) or 0
    except UserError as error:
        if debug:
            raise
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("stopped by the user\n")
        return 130
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing is wrong, and there is nobody to tell.
        sys.stderr.close()
        return 1
    except OSError as error:
        # A full disk, missing rights, a device that went away: no fault of the program.
        if debug or error.strerror is None:
            raise
        sys.stderr.write(f"error: {f'{error.filename}: ' if error.filename else ''}{error.strerror}\n")
        return 1
