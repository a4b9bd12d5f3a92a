"""Checks of boxes, missing files and similar names."""

from pathlib import Path

import numpy as np
import pytest

from msdet.data.annotations import BoxEntry, ImageEntry, RawAnnotations
from msdet.data.dataset import ReadReport
from msdet.data.validation.boxes import BoxCheck, known_defect, missing_files, nearest_name
from msdet.data.validation.faults import Fault
from msdet.errors import UserError


def check(*boxes, size=(64, 48)):
    entries = [BoxEntry(number, 1, 1, box) for number, box in enumerate(boxes, 1)]
    annotations = RawAnnotations(Path("a.json"), Path(), [ImageEntry(1, "a.jpg", *size)], entries, [])
    return BoxCheck(annotations, np.zeros(len(boxes), np.int64), np.array([size]))


def test_boxes_are_clipped_by_up_to_a_pixel():
    result = check([1, 2, 10, 20], [54.5, 0, 10, 10], [54, 38, 10, 10]).check_boxes()
    assert result.keep.all() and result.clipped.tolist() == [False, True, False] and not result.bad
    np.testing.assert_allclose(result.corners, [[1, 2, 11, 22], [54.5, 0, 64, 10], [54, 38, 64, 48]])
    np.testing.assert_allclose(result.xywh[1], [54.5, 0, 9.5, 10])


@pytest.mark.parametrize(
    ("box", "fault"),
    [
        ([60, 0, 20, 10], Fault.OUTSIDE),
        ([0, 0, 0, 10], Fault.NO_AREA),
        ([64, 0, 1, 10], Fault.NO_AREA),
        ([9, 9, -5, 10], Fault.NEGATIVE_SIZE),
        ([0, 0, float("nan"), 9], Fault.NOT_NUMERIC),
        ([0, 0, 10**400, 9], Fault.NOT_NUMERIC),
        ([0, 0, True, 9], Fault.NOT_NUMERIC),
        ("0 0 9 9", Fault.NOT_NUMERIC),
    ],
)
def test_invalid_boxes_are_described(box, fault):
    (bad,) = check([1, 2, 10, 20], box).check_boxes().bad
    assert (bad.position, bad.fault) == (1, fault)
    assert bad.text.startswith("image 1 (a.jpg): the box ")


def test_no_box_is_outside_an_image_of_unknown_size():
    assert check([600, 0, 20, 10], size=(0, 0)).check_boxes().keep.all()


def test_invalid_boxes_are_an_error_or_skipped():
    report = ReadReport()
    assert check([1, 2, 10, 20], [60, 0, 20, 10]).run("skip", report).keep.tolist() == [True, False]
    assert report.skipped == 1 and "exceeds its image" in report.notes[0]
    with pytest.raises(UserError, match="annotation 2: image 1 .*exceeds its image.*on_bad_box=skip"):
        check([1, 2, 10, 20], [60, 0, 20, 10]).run("error", ReadReport())


def test_normalised_boxes_are_rejected():
    boxes = [0.1, 0.2, 0.5, 0.6], [0.5, 0.5, 0.5, 0.5]
    with pytest.raises(UserError, match="all 2 boxes lie between 0 and 1"):
        check(*boxes).run("skip", ReadReport())
    for sound in (check(*boxes, [0, 0, 9, 9]), check(*boxes, size=(8, 8)), check()):
        assert not sound.describe_normalised(sound.check_boxes())


def test_known_defects_of_coco():
    assert known_defect(918, [296.65, 388.33, 1.03, 0.0])
    assert not known_defect(918, [296.65, 388.33, 1.03, 1.0]) and not known_defect(919, [296.65, 388.33, 1.03, 0.0])


def test_nearest_name():
    assert nearest_name("Hotdog", ["person", "hot dog"]) == "hot dog"
    assert nearest_name("zebra", ["person", "hot dog"]) is None


def test_missing_files(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.jpg").touch()
    assert missing_files(tmp_path, ["train/a.jpg", "train/b.jpg", "val/a.jpg"]) == ["train/b.jpg", "val/a.jpg"]
