"""Detection of YOLO annotations."""

from pathlib import Path

import pytest

from msdet.data.formats.format import SourceOptions
from msdet.data.formats.yolo.format import YoloFormat
from msdet.errors import UserError
from tests.data import all_formats as formats


@pytest.mark.parametrize(("inner", "labels"), [("images/val", "labels/val"), ("valid/images", "valid/labels")])
def test_folders_with_and_without_data_yaml(tmp_path, inner, labels):
    root = formats.write_yolo(tmp_path / "data", inner, labels, yaml="")
    assert YoloFormat().matches_folder(SourceOptions(str(root)), "val")
    (tmp_path / "data.yaml").write_text("")
    assert YoloFormat().matches_folder(SourceOptions(str(tmp_path)), "val")
    (tmp_path / "data.yaml").unlink()
    assert not YoloFormat().matches_folder(SourceOptions(str(tmp_path)), "val")


def test_files(tmp_path):
    (tmp_path / "list.txt").write_text("images/a.jpg\n")
    found = YoloFormat()
    assert found.matches_file(Path("any.yaml")) and found.matches_file(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text("a\n")
    assert not found.matches_file(tmp_path / "list.txt") and not found.matches_file(Path("a.json"))
    with pytest.raises(UserError, match=r"obj\.data is a darknet data file: give one of the image lists"):
        found.matches_file(Path("obj.data"))


def test_names_of_the_data_yaml_take_precedence(tmp_path):
    root = formats.write_yolo(tmp_path)
    raw = YoloFormat().load(SourceOptions(str(root), class_names=("one", "two", "three")), "train")
    assert [category.name for category in raw.categories] == ["cat", "hot dog"]
