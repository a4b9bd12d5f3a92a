"""Errors that the user can fix, and how a command reports them.

A programming error ends with a traceback. Wrong arguments, files or environments end with one or two lines that name
the file, the place and the remedy.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence


class UserError(Exception):
    """Wrong input or environment.

    Args:
        message: one or two lines: the file, the place in it, the remedy.
    """

    exit_code = 1


class UsageError(UserError):
    """A wrong flag or configuration key; the command ends with exit code 2."""

    exit_code = 2


def _escape_unencodable_output() -> None:
    """Escapes characters that the encoding of the terminal lacks, instead of raising UnicodeEncodeError."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def run_command(main: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """Runs `main(argv)` and returns the exit code of the process.

    A `UserError` is printed as `error: ...` without a traceback, unless the arguments contain `--debug`.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    _escape_unencodable_output()
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
        # The reader of our output has exited (`| head`): no error, and nobody to report one to.
        sys.stderr.close()
        return 1
    except OSError as error:
        # A full disk, missing permissions, a lost device: not an error of the program.
        if debug or error.strerror is None:
            raise
        sys.stderr.write(f"error: {f'{error.filename}: ' if error.filename else ''}{error.strerror}\n")
        return 1
