"""How a command reports errors: exit code and message."""

import errno

import pytest

from msdet.errors import UsageError, UserError, run_command


def raising(error):
    def main(argv):
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("a.json: missing"), 1, "error: a.json: missing\n"),
        (UsageError("--lr is 'x'"), 2, "error: --lr is 'x'\n"),
        (OSError(errno.ENOSPC, "No space left on device", "w.ckpt"), 1, "error: w.ckpt: No space left on device\n"),
        (KeyboardInterrupt(), 130, "stopped by the user\n"),
        (SystemExit(3), 3, ""),
        (SystemExit("text"), 1, ""),
        (SystemExit(None), 0, ""),
    ],
)
def test_exit_codes_and_messages(capsys, error, code, message):
    assert run_command(raising(error), []) == code
    assert capsys.readouterr().err == message


def test_debug_shows_the_traceback_and_is_no_argument_of_the_command():
    with pytest.raises(UserError):
        run_command(raising(UserError("x")), ["--debug"])
    seen = []
    assert run_command(seen.extend, ["--debug", "--lr=1"]) == 0
    assert seen == ["--lr=1"]


def test_a_programming_error_is_not_caught():
    with pytest.raises(ZeroDivisionError):
        run_command(raising(ZeroDivisionError()), [])
