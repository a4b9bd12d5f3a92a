"""The cleaned copy of annotations, and the findings about what was changed."""

from pathlib import Path

import pytest

from msdet.data.annotations import BoxEntry, Category, ImageEntry, RawAnnotations
from msdet.data.validation.findings import SplitReport
from msdet.data.validation.image_scan import ImageInfo
from msdet.data.validation.inspection import inspect_annotations


def inspected(boxes, images=(), categories=(), class_names=(), infos=None):
    annotations = RawAnnotations(
        Path("a.json"),
        Path("images"),
        [ImageEntry(1, "a.jpg", 64, 48), *images],
        boxes,
        [Category(3, "cat"), Category(7, "dog"), *categories],
    )
    report = SplitReport("train", "a.json", "coco")
    cleaned = inspect_annotations(annotations, class_names, infos or {}, report)
    return cleaned, {finding.kind: finding for finding in report.findings}


def test_valid_annotations_are_unchanged():
    cleaned, found = inspected([BoxEntry(9, 1, 3, [1.0, 2.0, 10.0, 20.0], 150.0)])
    (box,) = cleaned.annotations
    assert (box.image_id, box.category_id, box.bbox, box.area) == (1, 3, [1.0, 2.0, 10.0, 20.0], 150.0)
    assert not found and [category.name for category in cleaned.categories] == ["cat", "dog"]


def test_categories_with_the_same_name_are_merged():
    boxes = [BoxEntry(1, 1, 3, [1, 2, 10, 20]), BoxEntry(2, 1, 9, [5, 5, 10, 20])]
    cleaned, found = inspected(boxes, categories=[Category(9, "cat")])
    assert [box.category_id for box in cleaned.annotations] == [3, 3]
    assert found["duplicate category"].fix == "boxes of 9 are moved to 3"


def test_class_names_that_differ_in_spelling_are_renamed():
    cleaned, found = inspected([BoxEntry(1, 1, 3, [1, 2, 10, 20])], class_names=["C.A.T", "dog"])
    assert [category.name for category in cleaned.categories] == ["C.A.T", "dog"]
    assert found["unknown class"].fix == "renamed to 'C.A.T'"


def test_images_of_one_file_are_merged():
    boxes = [BoxEntry(1, 1, 3, [1, 2, 10, 20]), BoxEntry(2, 5, 7, [5, 5, 10, 20])]
    cleaned, found = inspected(boxes, images=[ImageEntry(5, "a.jpg", 64, 48)])
    assert [image.id for image in cleaned.images] == [1]
    assert [box.image_id for box in cleaned.annotations] == [1, 1]
    assert found["file with several image ids"].fix == "its boxes move to 1"


@pytest.mark.parametrize(
    ("info", "kind"),
    [
        (ImageInfo(error="a.jpg is missing", missing=True), "missing image"),
        (ImageInfo(error="a.jpg is empty"), "corrupt image"),
        (ImageInfo(width=60, height=48), "size differs from the annotation"),
    ],
)
def test_unusable_images_are_removed_with_their_boxes(info, kind):
    cleaned, found = inspected([BoxEntry(1, 1, 3, [1, 2, 10, 20])], infos={"a.jpg": info})
    assert not cleaned.images and not cleaned.annotations
    assert found[kind].fix == "removed with its boxes"


def test_missing_sizes_are_completed_from_the_file():
    cleaned, _ = inspected([], images=[ImageEntry(2, "b.jpg")], infos={"b.jpg": ImageInfo(width=30, height=20)})
    assert [(image.width, image.height) for image in cleaned.images] == [(64, 48), (30, 20)]


@pytest.mark.parametrize(("left", "kept"), [(59, [59, 0, 5, 10]), (60, None)])
def test_boxes_are_clipped_if_half_remains(left, kept):
    cleaned, found = inspected([BoxEntry(1, 1, 3, [left, 0, 10, 10], 77)])
    assert [(box.bbox, box.area) for box in cleaned.annotations] == ([(kept, None)] if kept else [])
    assert found["box outside its image"].fix == ("clipped" if kept else "removed")
