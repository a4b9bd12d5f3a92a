"""Numba kernels: candidate selection, compilation and its cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from msdet.ops.nms import greedy_nms

ROOT = Path(__file__).resolve().parents[2]


def test_arguments_of_any_kind_are_compiled_once():
    boxes = np.arange(32, dtype=np.float64).reshape(4, 8)[:, ::2]
    readonly = boxes.astype(np.float32)
    readonly.flags.writeable = False
    scores, labels = np.array([0.1, 0.4, 0.3, 0.2]), np.zeros(4, np.int64)
    from msdet.ops import nms_kernels

    greedy_nms(readonly, scores, labels, 0.5)
    before = len(nms_kernels.greedy.signatures)
    for given_boxes in (boxes, boxes.astype(np.float32), readonly, np.asfortranarray(boxes)):
        assert greedy_nms(given_boxes, scores, labels, 1).tolist() == [1, 2, 3, 0]
    assert len(nms_kernels.greedy.signatures) == before


@pytest.mark.parametrize("user_cache", [True, False])
def test_a_read_only_source_folder(tmp_path, user_cache):
    """The compiled code goes to the user's cache folder, or nowhere, and the result is the same."""
    package = tmp_path / "msdet" / "ops"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    for name in ("nms.py", "nms_kernels.py"):
        shutil.copy(ROOT / "src" / "msdet" / "ops" / name, package)
    (package / "__pycache__").write_text("a file where a folder is wanted: nobody, root neither, can write there")
    cache = tmp_path / "cache"
    if not user_cache:
        cache.write_text("no folder either")
    script = (
        "import json, numpy, msdet.ops.nms as n; print(json.dumps(n.descending_order(numpy.array([1, 3, 2])).tolist()))"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NUMBA")}
    run = subprocess.run(
        [sys.executable, "-B", "-c", script],
        cwd=tmp_path,
        env=environment | {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == [1, 2, 0]
    assert bool(list(tmp_path.rglob("*.nbi"))) == user_cache
