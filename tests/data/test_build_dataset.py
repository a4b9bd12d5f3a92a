"""Validation of annotations: a message for everything that can be wrong."""

import logging

import numpy as np
import pytest

from msdet.data.build_dataset import build_dataset
from msdet.data.formats.coco.read import read_coco
from msdet.data.formats.format import SourceOptions
from msdet.data.open import load_annotations
from msdet.data.read_options import ReadOptions
from msdet.errors import UserError
from tests.data import all_formats as formats
from tests.data.conftest import coco_error


@pytest.mark.parametrize("absent", [{}, {"width": None, "height": None}, {"width": 0, "height": 0}])
def test_missing_sizes_are_read_from_the_image_files(coco, absent):
    coco.add_image(1, 80, 40, boxes=[[70, 30, 10, 10]])
    image = coco.content["images"][0]
    del image["width"], image["height"]
    image.update(absent)
    sample = read_coco(*coco.write()).samples[0]
    assert (sample.width, sample.height) == (80, 40)
    coco.add_box(1, [75, 0, 10, 10])
    assert "exceeds its image of 80x40 by 5 px" in coco_error(coco)


def test_scoring_needs_no_image_files(coco):
    coco.add_image(1, boxes=[[1, 1, 5, 5]])
    (coco.image_dir / "1.jpg").unlink()
    assert len(read_coco(*coco.write(), check_images=False)) == 1


def test_missing_images_are_reported(coco):
    for number in range(6):
        coco.add_image(number)
    for number in (0, 2, 3, 5):
        (coco.image_dir / f"{number}.jpg").unlink()
    text = coco_error(coco)
    assert "4 of 6 images" in text
    assert "0.jpg, 2.jpg, 3.jpg, ..." in text


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/passwd", "sub/../../a.jpg", "..", "..\\a.jpg", "C:\\a.jpg", "a\0b"])
def test_file_names_outside_the_image_folder_are_rejected(coco, name):
    coco.add_image(1)
    coco.content["images"][0]["file_name"] = name
    text = coco_error(coco)
    assert "points outside the image folder" in text
    assert repr(name) in text


BAD_BOXES = [
    ([1, 1, 0, 5], "has no area"),
    ([1, 1, 5, 0.0], "has no area"),
    ([1, 1, 1e-9, 5], "has no area"),
    ([1, 1, -3, 5], "negative width or height"),
    ([60, 1, 6, 5], "exceeds its image of 64x48 by 2 px"),
    ([-1.5, 1, 6, 5], "by 1.5 px"),
    ([100, 100, 5, 5], "exceeds its image"),
    ([float("nan"), 1, 6, 5], "is not four finite numbers"),
    ([1, 1, float("inf"), 5], "is not four finite numbers"),
    ([1, 2, 3], "is not four finite numbers"),
    ([1, 2, 3, "4"], "is not four finite numbers"),
    ([1, 2, 3, True], "is not four finite numbers"),
    ([1, 2, 3, None], "is not four finite numbers"),
    ([1, 2, 3, [4]], "is not four finite numbers"),
    ([10**400, 2, 3, 4], "is not four finite numbers"),
    ("1 2 3 4", "is not four finite numbers"),
    ([], "is not four finite numbers"),
]


@pytest.mark.parametrize(("bbox", "expected"), BAD_BOXES)
def test_bad_boxes_are_errors_or_skipped(coco, caplog, bbox, expected):
    coco.add_image(1, boxes=[[2, 2, 10, 10]])
    coco.add_box(1, bbox)
    text = coco_error(coco)
    assert expected in text
    assert "annotation 2" in text
    assert "image 1 (1.jpg)" in text
    assert "on_bad_box=skip" in text
    with caplog.at_level(logging.WARNING):
        dataset = read_coco(*coco.write(), on_bad_box="skip")
    assert len(dataset.samples[0].boxes) == 1
    assert dataset.report.skipped == 1
    assert "skipped 1 bad boxes" in caplog.text
    assert "annotation 2" in caplog.text


def test_boxes_that_exceed_their_image_slightly_are_clipped(coco, caplog):
    coco.add_image(1, boxes=[[-0.5, 0, 64.9, 48.99], [10, 10, 54.0000001, 10], [1, 1, 5, 5]])
    with caplog.at_level(logging.INFO):
        dataset = read_coco(*coco.write())
    np.testing.assert_array_equal(dataset.samples[0].boxes, [[0, 0, 64, 48], [10, 10, 64, 20], [1, 1, 6, 6]])
    assert dataset.report.clipped == 1
    assert sum("exceeded their image" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(("overhang", "clipped"), [(0.004, 1), (1e-7, 0)])
def test_a_tiny_overhang_is_clipped_unless_it_is_a_rounding_error(coco, overhang, clipped):
    coco.add_image(1, boxes=[[44.5, 8, 19.5 + overhang, 20]])
    dataset = read_coco(*coco.write())
    assert dataset.report.clipped == clipped
    expected = [44.5, 8, 19.5, 20] if clipped else [44.5, 8, 19.5 + overhang, 20]
    assert dataset.xywh.tolist() == [expected]


def test_known_defects_of_coco_are_skipped(coco):
    coco.add_image(200365, 640, 480, boxes=[[1, 1, 5, 5]])
    coco.add_box(200365, [296.65, 388.33, 1.03, 0.0], id=918)
    dataset = read_coco(*coco.write())
    assert len(dataset.samples[0].boxes) == 1
    assert dataset.report.skipped == 1
    coco.content["annotations"][1]["bbox"] = [296, 388.33, 1.03, 0.0]
    assert "has no area" in coco_error(coco)


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    [
        ("images", {"id": None}, "image 0 has no id"),
        ("images", {"id": [1]}, "has the id [1]"),
        ("images", {"id": 1.5}, "has the id 1.5"),
        ("images", {"file_name": None}, "image 1 has no file_name"),
        ("images", {"width": "64"}, "image 1 has width '64'"),
        ("images", {"width": -64}, "image 1 has width -64"),
        ("images", {"height": 48.5}, "height 48.5"),
        ("annotations", {"id": None}, "at position 0: the key 'id' is missing"),
        ("annotations", {"bbox": None, "category_id": None}, "annotation 1: the key 'category_id' and 'bbox'"),
        ("annotations", {"image_id": 99}, "annotation 1: no image has the id 99"),
        ("annotations", {"image_id": "1"}, "but one has the id 1: integer and string ids differ"),
        ("annotations", {"image_id": [1]}, "no image has the id [1]"),
        ("annotations", {"category_id": 4}, "image 1: no category has the id 4"),
        ("annotations", {"category_id": {}}, "no category has the id {}"),
        ("annotations", {"iscrowd": 2}, "iscrowd is 2"),
        ("annotations", {"id": 1.5}, "neither an integer nor a string"),
        ("categories", {"id": None}, "category 0 needs an integer 'id'"),
        ("categories", {"name": 5}, "category 0 needs an integer 'id' and a string 'name'"),
        ("categories", {"id": 7}, "the category id 7 occurs 2 times"),
    ],
)
def test_malformed_entries_are_reported(coco, kind, change, expected):
    coco.add_image(1, boxes=[[1, 1, 5, 5]])
    entry = coco.content[kind][0]
    entry.update(change)
    for key in [key for key, value in change.items() if value is None]:
        del entry[key]
    assert expected in coco_error(coco)


def test_ids_must_be_unique(coco):
    coco.add_image(1, boxes=[[1, 1, 5, 5]])
    coco.add_image(1, file_name="b.jpg")
    assert "the image id 1 occurs 2 times" in coco_error(coco)
    coco.content["images"][1]["id"] = 2
    coco.add_box(2, [1, 1, 5, 5], id=1)
    assert "the annotation id 1 occurs 2 times" in coco_error(coco)


def test_line_numbers_stay_correct_if_images_are_skipped(tmp_path):
    root = formats.write_txt(tmp_path / "data")
    (root / "images" / "a.jpg").unlink()
    path = root / "train.txt"
    path.write_text(path.read_text().replace("0,0,32,64,1", "0,0,99,64,1"))
    content = load_annotations(SourceOptions(str(root), ann_file="train.txt"), "train")
    with pytest.raises(UserError, match=r"train\.txt:3: image 'images/c d\.jpg'"):
        build_dataset(content, ReadOptions(on_bad_image="skip"))
