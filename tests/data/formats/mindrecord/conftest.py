"""A dataset as separate files and as MindRecord files."""

import shutil

import pytest

from msdet.data.formats.coco.read import read_coco
from msdet.data.formats.mindrecord.write import write_mindrecord


@pytest.fixture(scope="module")
def files(many):
    """A dataset of separate files."""
    return read_coco(many.ann_file, many.image_dir)


@pytest.fixture(scope="module")
def made(files, tmp_path_factory):
    """The same dataset as MindRecord files, in three shards."""
    folder = tmp_path_factory.mktemp("mindrecord")
    write_mindrecord(files, folder, "train", shards=3)
    return folder


@pytest.fixture
def copy(made, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(made, tmp_path / "copy")
