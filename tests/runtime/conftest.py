"""Fixtures of the tests of buckets and of jobs on ModelArts."""

from __future__ import annotations

import zipfile

import pytest


@pytest.fixture
def bucket(tmp_path):
    """A folder that stands for the bucket, with a zip file and a checkpoint."""
    folder = tmp_path / "bucket"
    (folder / "data").mkdir(parents=True)
    with zipfile.ZipFile(folder / "data" / "coco.zip", "w") as archive:
        archive.writestr("coco/annotations/train.json", "{}")
        archive.writestr("coco/train/0.jpg", "picture")
    (folder / "ckpt").mkdir()
    (folder / "ckpt" / "w.ckpt").write_text("weights")
    (folder / "ckpt" / "w.json").write_text("{}")
    return folder
