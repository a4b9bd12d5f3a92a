"""Reading YOLO label files."""

import numpy as np
import pytest

from msdet.data.formats.yolo.read import parse_line
from tests.data import all_formats as formats
from tests.data.all_formats import message, read


def test_polygons_become_boxes(tmp_path):
    root = formats.write_yolo(tmp_path)
    (root / "labels" / "train" / "b.txt").write_text("1 0.25 0.5 0.5 0.25 0.75 0.5 0.5 1\n")
    np.testing.assert_allclose(read(root).samples[1].boxes, [[20, 10, 60, 40]])


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("0 0.5 0.5 0.1", "a.txt:1: the line has 4 values, expected five: class cx cy w h"),
        ("cat 0.5 0.5 0.1 0.1", "a.txt:1: 'cat' is not a class number"),
        ("0 0.5 x 0.1 0.1", "has a value that is not a number"),
        ("0 32 24 10 10", "is in pixels; expected values relative to the image size"),
        ("2 0.5 0.5 0.1 0.1", "a.txt:1: the class 2 is not one of the 2 classes, numbered from 0"),
        ("0 0.95 0.5 0.4 0.1", "exceeds its image of 64x48 by 9.6 px"),
        ("0 0.5 0.5 0 0.1", "has no area"),
        ("0 nan 0.5 0.1 0.1", "is not four finite numbers"),
    ],
)
def test_malformed_lines_are_reported(tmp_path, line, text):
    root = formats.write_yolo(tmp_path)
    (root / "labels" / "train" / "a.txt").write_text(line + "\n")
    assert text in message(root)


def test_a_split_without_label_files(tmp_path):
    root = formats.write_yolo(tmp_path)
    for path in (root / "labels" / "train").iterdir():
        path.unlink()
    assert "none of 3 images has a label file, e.g." in message(root)


@pytest.mark.parametrize("line", ["/", "..", "a/.", "x" * 300 + ".jpg", "y/" * 3000 + "a.jpg"])
def test_lists_with_lines_that_are_not_image_paths(tmp_path, line):
    root = formats.write_yolo(tmp_path, yaml="train: list.txt\n")
    (root / "list.txt").write_text(f"images/train/a.jpg\n{line}\n")
    assert "list.txt:2: " in message(root) and "is not the path of an image" in message(root)


@pytest.mark.parametrize("line", ["1 3 4 10 12", "0 0.5 0.5 2.01 0.1", "0 -2.5 0.5 0.1 0.1", "2 0.1 0.1 0.2 0.1 5 0.4"])
def test_coordinates_in_pixels_are_rejected(line):
    """Already a few pixels: a small object of a small image must not become a box of ten times its width."""
    with pytest.raises(ValueError, match="is in pixels"):
        parse_line(line)


@pytest.mark.parametrize("line", ["1 0.5 0.5 1 2", "1 1.9 -0.1 0.5 0.5"])
def test_coordinates_slightly_outside_the_image_are_not_pixels(line):
    assert parse_line(line) == (1, tuple(float(word) for word in line.split()[1:]))
