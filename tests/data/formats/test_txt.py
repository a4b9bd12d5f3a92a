"""Text lists of boxes."""

import pytest

from tests.data import all_formats as formats
from tests.data.all_formats import check, message, read


@pytest.mark.parametrize("wanted", ["auto", "txt", "other"])
@pytest.mark.parametrize(("order", "first"), [("xyxy", 0), ("yxyx", 1)])
def test_orders_of_corners_and_class_names(tmp_path, wanted, order, first):
    root = formats.write_txt(tmp_path, order, first)
    options = {"dataset": wanted, "txt_order": order, "txt_first_class": first}
    check(read(root, ann_file="train.txt", **options), "txt")
    if wanted != "auto":
        check(read(root, **options), "txt")
    (root / "classes.txt").unlink()
    numbers = read(root, ann_file="train.txt", **options).class_names
    assert numbers == [str(first), str(first + 1)]
    assert read(root, ann_file="train.txt", class_names=formats.NAMES, **options).class_names == list(formats.NAMES)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("1,2,11,22,0", "1,2,11,0", "train.txt:1: the box '1,2,11,0' has 4 values, expected five: x1,y1,x2,y2,class"),
        ("1,2,11,22,0", "1,b,11,22,0", "train.txt:1: the box '1,b,11,22,0' has a value that is not a number"),
        ("1,2,11,22,0", "1,2,11,22,cat", "the class of the box '1,2,11,22,cat' is 'cat', not an integer"),
        ("1,2,11,22,0", "1,2,11,22,2", "is not one of the 2 classes, numbered 0 to 1; if class numbers start at 1"),
        ("1,2,11,22,0", "11,2,1,22,0", "train.txt:1: image 'images/a.jpg' (images/a.jpg): the box 11,2,1,22,0"),
        ("1,2,11,22,0", "1,2,11,nan,0", "is not four finite numbers"),
        ("images/a.jpg", "../a.jpg", "points outside the image folder"),
        ("images/a.jpg", "images/b.jpg", "the image id 'images/b.jpg' occurs 2 times"),
        ("images/a.jpg", "", "train.txt:1: the line has no path"),
        ("images/a.jpg", "images/e.jpg", "1 of 3 images named in"),
    ],
)
def test_malformed_lines_are_reported(tmp_path, old, new, text):
    path = formats.write_txt(tmp_path) / "train.txt"
    path.write_text(path.read_text().replace(old, new))
    assert text in message(tmp_path, ann_file="train.txt")
