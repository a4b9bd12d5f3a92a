"""Fixtures of the evaluation tests."""

import pytest

from tests.data.conftest import CocoFolder


@pytest.fixture
def folder(tmp_path):
    """Three images with one box each."""
    folder = CocoFolder(tmp_path / "data")
    folder.image_dir = folder.image_dir.rename(folder.root / "val")
    folder.ann_file = folder.ann_file.with_name("val.json")
    folder.add_image(1, 80, 60, boxes=[[0, 0, 40, 30]])
    folder.add_image(2, 80, 60, boxes=[[20, 10, 60, 50]])
    folder.add_image("three", 60, 80, boxes=[[5, 5, 30, 30]], category_id=7)
    folder.write()
    return folder
