"""Folder locks."""

import subprocess
import sys
from pathlib import Path

import pytest

from msdet.folder_lock import FolderInUse, FolderLock

ROOT = Path(__file__).resolve().parents[1]


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path):
    program = "import sys, time; from msdet.folder_lock import *; from pathlib import Path\n" \
        "lock = FolderLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", program, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(FolderInUse, match=rf"process {process.pid} on "):
        FolderLock(tmp_path)
    process.kill()
    process.wait()
    FolderLock(tmp_path).close()
