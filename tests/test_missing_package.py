"""Commands under an interpreter that has no packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "src")}
SCRIPTS = ["eval.py", "train.py", "export.py", "predict.py", "test.py", "postprocess.py"]
TOOLS = ["check", "create_data", "browse", "launch", "import"]


# -S hides the installed packages.
@pytest.mark.parametrize("command", [*([name] for name in SCRIPTS), *(["-m", "msdet", name] for name in TOOLS)])
def test_one_line_says_what_to_do(command):
    arguments = [sys.executable, "-S", *command, "--config", "configs/yolov3.yaml"]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "has no package" in line
    assert "requirements.txt" in line or ".venv/bin/activate" in line


def test_debug_and_own_modules_keep_their_traceback():
    for code in (
        "import msdet, sys; sys.argv.append('--debug'); import no_such_package",
        "import msdet.no_such_module",
    ):
        done = subprocess.run(
            [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, env=ENVIRONMENT
        )
        assert done.returncode == 1
        assert "Traceback" in done.stderr
