"""Reading data.yaml."""

import pytest

from tests.data import all_formats as formats
from tests.data.all_formats import message


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("train: [", "data.yaml:"),
        ("- a", "is not a data.yaml"),
        ("train: nowhere\nnames: [a, b]", "nowhere (the images of the split 'train') does not exist"),
        ("train: images/train\nnc: 3\nnames: [a, b]", "nc is 3, but names has 2 classes"),
        ("train: images/train\nnames: {1: a, 2: b}", "names has the numbers 1, 2, not 0 to 1"),
        ("train: images/train\nnames: 3", "names is not a list of class names"),
        ("train: labels/train\nnames: [a, b]", "no images in"),
    ],
)
def test_malformed_files_are_reported(tmp_path, content, text):
    root = formats.write_yolo(tmp_path, yaml="")
    (root / "data.yaml").write_text(content)
    assert text in message(root, dataset="yolo")
