"""Finding the images of a YOLO split."""

import pytest

from tests.data import all_formats as formats
from tests.data.all_formats import check, read


@pytest.mark.parametrize(
    ("inner", "labels", "yaml"),
    [
        ("images/train", "labels/train", "train: images/train\nval: images/train\n"),
        ("images/train", "labels/train", "path: elsewhere\ntrain: images/train\n"),
        ("train/images", "train/labels", "train: ../train/images\nval: ../valid/images\n"),
        ("images/train2017", "labels/train2017", ""),
        ("train/images", "train/labels", ""),
        ("images/train", "labels/train", "train: list.txt\n"),
    ],
)
def test_layouts_with_and_without_data_yaml(tmp_path, inner, labels, yaml):
    root = formats.write_yolo(tmp_path, inner, labels, yaml)
    (root / "list.txt").write_text("".join(f"{inner}/{name}.jpg\n" for name in formats.IMAGES))
    names = () if yaml else formats.NAMES
    check(read(root, class_names=names), "yolo")
