"""Seconds until `--help` is printed: `python benchmarks/run.py startup`.

The baseline is a process that only imports MindSpore, as a command that loads it eagerly would have to.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from benchmarks.report import ROOT, VALUE, Goal, Options, Result
from benchmarks.side_by_side import alternate_all

SCRIPTS = ("train.py", "eval.py", "export.py", "predict.py")
OTHER = "import mindspore"


def run(arguments: Sequence[str]) -> None:
    """Runs Python to its end.

    Raises:
        CalledProcessError: it failed.
    """
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)


def measure(options: Options) -> Result:
    """Measures each script."""
    result = Result()
    scripts = SCRIPTS[:1] if options.quick else SCRIPTS
    sides = {script: lambda script=script: run([script, "--help"]) for script in scripts}
    seconds = alternate_all({**sides, OTHER: lambda: run(["-c", OTHER])}, options.count(7))
    medians = result.keep("--help", seconds)
    for script in scripts:
        result.compare("--help", "s", medians, script, OTHER, [Goal(VALUE, at_most=1)])
    return result
