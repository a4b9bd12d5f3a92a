"""The run_*.sh scripts: dry runs of every command line in the documentation of the old model zoo, with MODEL added."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from msdet.tools.launcher import arguments as launch_table

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_scripts_run_from_any_folder(shell, tmp_path):
    """One real call per shell: paths are relative to the caller's folder, and links to scripts work."""
    here = tmp_path / "a folder"
    here.mkdir()
    environment = {**os.environ, "PYTHON": sys.executable}
    script = ROOT / "scripts" / ("run_eval.sh" if shell == "sh" else "run_standardalone_train.sh")
    done = subprocess.run(
        [shell, str(script), "yolov3", "data", "w.ckpt", "0", "--dry_run"],
        cwd=here, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"cd {shlex.quote(str(here))}" and f"--data_dir={here}/data" in done.stdout
    assert lines[1].startswith("DEVICE_ID=0 ") and lines[-1].startswith("# log: ")
    assert not list(here.iterdir()), "a dry run writes no files"
    wrong = subprocess.run(
        [shell, str(script), "yolov3"],
        cwd=here, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert wrong.returncode == 2 and "usage: bash scripts/run_" in wrong.stderr


def test_python_without_the_packages_is_skipped(tmp_path):
    """An active conda environment may not be the one with MindSpore."""
    conda, path = tmp_path / "conda" / "bin", tmp_path / "bin"
    for place, option in ((conda, "-S"), (path, "")):  # without site, no packages are found
        place.mkdir(parents=True)
        for name in ("python", "python3"):
            (place / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {option} "$@"\n')
            (place / name).chmod(0o755)
    clone = tmp_path / "clone"
    (clone / "scripts").mkdir(parents=True)
    for name in ("launch.sh", "run_eval.sh"):
        (clone / "scripts" / name).symlink_to(ROOT / "scripts" / name)
    for name in ("src", "configs", "eval.py"):
        (clone / name).symlink_to(ROOT / name)

    def call(**environment):
        kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHON")}
        return subprocess.run(
            ["bash", str(clone / "scripts" / "run_eval.sh"), "yolov3", "data", "w.ckpt", "--dry_run"],
            env={**kept, "CONDA_PREFIX": str(conda.parent), **environment},
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    done = call(PATH=f"{path}:{os.environ['PATH']}")
    assert done.returncode == 0 and "eval.py" in done.stdout, done.stderr
    none = call(PATH=f"{conda}:{os.environ['PATH']}")
    assert none.returncode == 1 and "Traceback" not in none.stderr
    for text in (str(conda / "python"), str(conda / "python3"), "quickstart.sh", "requirements.txt"):
        assert text in none.stderr
    named = call(PYTHON=str(conda / "python"), PATH=f"{path}:{os.environ['PATH']}")
    assert named.returncode == 1 and f"tried: {conda / 'python'}\n" in named.stderr


def test_all_scripts_are_known_and_executable():
    scripts = {path.stem for path in (ROOT / "scripts").glob("run_*.sh") if not path.is_symlink()}
    assert scripts == set(launch_table.SCRIPTS)
    for path in (ROOT / "scripts").glob("run_*.sh"):
        assert os.access(path, os.X_OK)
