"""One line instead of a traceback if a package is not installed; usually the wrong Python interpreter was used."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from types import TracebackType

_OWN = ("msdet", "tests", "benchmarks")


def explain_missing_packages() -> None:
    """Installs an exception hook that prints what to do about a missing package, unless `--debug` is given.

    A hook, because commands import packages before they can catch an exception.
    """
    usual = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        name = (error.name or "") if isinstance(error, ModuleNotFoundError) else ""
        if not name or name.split(".")[0] in _OWN or "--debug" in sys.argv:
            usual(kind, error, trace)
        else:
            sys.stderr.write(f"error: {_remedy(name)}\n")

    sys.excepthook = hook


def _remedy(name: str) -> str:
    root = Path(__file__).resolve().parents[2]
    activate = root / ".venv" / "bin" / "activate"
    is_active = Path(sys.prefix).resolve() == (root / ".venv").resolve()
    if activate.is_file() and not is_active:
        remedy = f"activate the environment first: . {shlex.quote(str(activate))}"
    else:
        requirements = root / "requirements.txt"
        what = ("-r", str(requirements)) if requirements.is_file() else ("--force-reinstall", "msdet")
        remedy = f"install the requirements first: {shlex.join((sys.executable, '-m', 'pip', 'install', *what))}"
    return f"{sys.executable} has no package {name!r}; {remedy}"
