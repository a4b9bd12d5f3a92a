"""Queries of the doctor to the machine, and the result of a check."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msdet.ops.fonts import missing_letters

ROOT = Path(__file__).resolve().parents[4]
INSTALL = f"{sys.executable} -m pip install -r {ROOT / 'requirements.txt'}"


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Args:
        name: what was checked.
        level: `ok`, `warn` or `FAIL`.
        text: the finding.
        remedy: the command or action that fixes it; empty if `ok`.
    """

    name: str
    level: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.level:<4}  {self.name}: {self.text}" + (f"  ->  {self.remedy}" if self.remedy else "")


def _version(module: str) -> str:
    """Imports a module and returns its version; does not catch import errors."""
    loaded = importlib.import_module(module)
    found = getattr(loaded, "__version__", None)
    return str(found or importlib.metadata.version(module.split(".")[0]))


def _with_package() -> dict[str, str]:
    """Environment variables with which Python finds this package."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH")))),
    }


def _run(command: Sequence[str], timeout: float) -> tuple[int, str]:
    """Exit code and output of a command; -1 and the reason if it could not run or timed out."""
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=_with_package(), capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return -1, f"timed out after {timeout:.0f} s"
    except OSError as error:
        return -1, str(error)
    return done.returncode, done.stdout + done.stderr


@dataclass(frozen=True)
class Machine:
    """Queries of the checks to the machine; tests replace them."""

    python: tuple[int, ...] = field(default_factory=lambda: tuple(sys.version_info[:3]))
    version: Callable[[str], str] = _version
    run: Callable[[Sequence[str], float], tuple[int, str]] = _run
    which: Callable[[str], str | None] = shutil.which
    davinci: Callable[[], list[str]] = lambda: sorted(str(path) for path in Path("/dev").glob("davinci[0-9]*"))
    environ: Callable[[str], str | None] = os.environ.get
    cores: Callable[[], int] = lambda: (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    memory_gb: Callable[[], float] = lambda: _memory_gb()
    missing_letters: Callable[[str], str] = lambda letters: missing_letters([letters])
    disk_gb: Callable[[], float] = lambda: shutil.disk_usage(ROOT).free / 1e9


def _memory_gb() -> float:
    """Available memory in 10^9 bytes; infinite if the system does not report it."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return float("inf")
