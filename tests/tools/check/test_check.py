"""The dataset check: a collection of invalid inputs with their findings and cleaned copies."""

import json
import shutil

import pytest

from msdet.errors import UsageError
from msdet.session.datasets import open_dataset
from msdet.tools.check import check
from tests.data.images.test_decode import with_orientation
from tests.tools.check.datasets import CONFIG, arguments, config, findings, valid_dataset


def _set(entry, **values):
    def change(folder):
        group, position = entry
        folder.content[group][position].update(values)

    return change


def _box(*values):
    return lambda folder: folder.add_box(1, list(values))


def _file(name, data):
    def change(folder):
        (folder.image_dir / name).write_bytes(data)

    return change


def _truncated(folder):
    path = folder.image_dir / "1.jpg"
    path.write_bytes(path.read_bytes()[:300])


def _copy(folder):
    shutil.copy(folder.image_dir / "1.jpg", folder.image_dir / "2.jpg")


def _rotated(width, height):
    def change(folder):
        path = folder.image_dir / "1.jpg"
        path.write_bytes(with_orientation(path.read_bytes(), 6))
        folder.content["images"][0].update(width=width, height=height)
        folder.content["annotations"] = [a for a in folder.content["annotations"] if a["image_id"] != 1]

    return change


def _delete(group, position, key):
    return lambda folder: folder.content[group][position].pop(key)


def _duplicate(group, position):
    return lambda folder: folder.content[group].append(dict(folder.content[group][position]))


COCO = [
    (_box(60, 0, 20, 10), "box outside its image", "annotation 4: image 1 (1.jpg): the box [60, 0, 20, 10]", "error"),
    (_box(70, 0, 20, 10), "box outside its image", "exceeds its image of 64x48 by 26 px", "error"),
    (_box(0, 0, 0, 10), "box of zero area", "has no area", "error"),
    (_box(64, 0, 1, 10), "box of zero area", "has no area", "error"),
    (_box(9, 9, -5, 10), "box of negative size", "has a negative width or height", "error"),
    (_box(0, 0, float("nan"), 9), "box without four numbers", "is not four finite numbers", "error"),
    (_box(0, 0, float("inf"), 9), "box without four numbers", "is not four finite numbers", "error"),
    (_box(0, 0, 9), "box without four numbers", "is not four finite numbers", "error"),
    (_box("0", 0, 9, 9), "box without four numbers", "is not four finite numbers", "error"),
    (_box(1, 2, 10, 20), "duplicate box", "annotation 4: image 1 (1.jpg): the box is a duplicate", "warning"),
    (_box(54.5, 0, 10, 10), "box clipped by less than a pixel", "1 boxes exceed their images by at most", "note"),
    (_box(0, 0, 1, 9), "box too small at the input size", "1 of 4 boxes (25.0%) are less than 4 px", "warning"),
    (_set(("annotations", 0), image_id=9), "annotation of an unknown image", "no image has the id 9", "error"),
    (_set(("annotations", 0), image_id="1"), "annotation of an unknown image", "string ids differ", "error"),
    (_set(("annotations", 0), category_id=9), "annotation of an unknown category", "no category has the id 9", "error"),
    (_set(("annotations", 0), area=float("nan")), "invalid area", "annotation 1: the area 'nan' is not a number of px",
     "warning"),
    (_set(("annotations", 0), area=10**400), "invalid area", "annotation 1: the area '1000", "warning"),
    (_set(("annotations", 0), area="200"), "invalid area", "annotation 1: the area '200' is not a number", "warning"),
    (_set(("annotations", 0), iscrowd=2), "bad iscrowd", "iscrowd is 2, not 0 or 1", "error"),
    (_delete("annotations", 0, "bbox"), "annotation lacks a key", "annotation 1: the key 'bbox' is missing", "error"),
    (_delete("annotations", 0, "image_id"), "annotation lacks a key", "the key 'image_id' is missing", "error"),
    (_duplicate("annotations", 0), "duplicate annotation id", "the annotation id 1 is used twice", "error"),
    (_duplicate("images", 0), "duplicate image id", "the image id 1 is used twice (1.jpg)", "error"),
    (_delete("images", 0, "file_name"), "malformed image entry", "image 1 has no file_name", "error"),
    (_delete("images", 0, "id"), "malformed image entry", "image 0 has no usable id (None)", "error"),
    (_set(("images", 0), file_name="../1.jpg"), "file name outside the folder", "points outside the image", "error"),
    (_set(("images", 0), file_name="/etc/passwd"), "file name outside the folder", "points outside the image", "error"),
    (_set(("images", 0), width=-3), "malformed image entry", "image 1 has width -3 and height 48", "error"),
    (_set(("images", 0), width=65), "size differs from the annotation", "has 64x48 pixels, its annotation has 65x48",
     "error"),
    (_set(("images", 0), file_name="4.jpg"), "missing image", "4.jpg is missing", "error"),
    (_set(("images", 0), file_name="4.jpg"), "image without an entry", "do not list 1 images: 1.jpg", "note"),
    (_file("1.jpg", b""), "corrupt image", "1.jpg is empty", "error"),
    (_file("1.jpg", b"<html>404</html>"), "corrupt image", "1.jpg is not a supported image", "error"),
    (_truncated, "corrupt image", "1.jpg", "error"),
    (_file("notes.md", b"x"), "not an image", "1 files are not images: notes.md", "note"),
    (_copy, "duplicate image", "2 images are identical: 1.jpg, 2.jpg", "warning"),
    (_rotated(48, 64), "EXIF rotation", "has EXIF orientation 6: it is rotated upright when read", "note"),
    (_rotated(64, 48), "EXIF rotation", "it is read without rotation", "warning"),
    (_set(("categories", 0), id="3"), "malformed category", "category 0 needs an integer 'id'", "error"),
    (_set(("categories", 0), id=7), "duplicate category", "the category id 7 is used twice ('dog')", "error"),
    (_set(("categories", 1), name="cat"), "duplicate category", "'cat' is used twice, with ids 3 and 7",
     "error"),
    (lambda f: f.content["categories"].append({"id": 9, "name": "cow"}), "unused class",
     "1 classes have no boxes: cow", "warning"),
    (lambda f: f.content.pop("images"), "unreadable annotations", "the key 'images' is missing", "error"),
    (lambda f: f.content.update(images=[]), "unreadable annotations", "lists no images", "error"),
    (lambda f: f.content.update(images=3), "unreadable annotations", "is not a COCO annotation file", "error"),
]  # fmt: skip


def test_valid_dataset_has_no_findings(tmp_path):
    valid_dataset(tmp_path / "data").write()
    found, checked = findings(tmp_path / "data")
    assert found == []
    assert checked.report.statistics["images"] == 3
    assert checked.report.classes == [
        {"name": "cat", "boxes": 2, "images": 1},
        {"name": "dog", "boxes": 1, "images": 1},
    ]


@pytest.mark.parametrize(("change", "kind", "text", "severity"), COCO)
def test_problem_is_reported_and_cleaned(tmp_path, change, kind, text, severity):
    folder = valid_dataset(tmp_path / "data")
    change(folder)
    folder.write()
    found, checked = findings(tmp_path / "data")
    same = [f for f in found if f.kind == kind]
    assert same, found
    assert any(text in f.text and f.severity == severity for f in same), same
    if checked.dataset is None:
        assert kind == "unreadable annotations"
        return
    # The cleaned copy is valid: only notes remain.
    root = tmp_path / "data"
    assert check.main([*arguments(root), f"--fix={tmp_path}/fixed", "--splits=train"]) == min(
        checked.report.count("error"), 1
    )
    flags = [f"--train_ann_file={tmp_path}/fixed/train.json", f"--train_image_dir={folder.image_dir}"]
    left, _ = findings(root, *flags)
    allowed = {"unused class", "duplicate image", "box too small at the input size", "EXIF rotation"}
    assert not [f for f in left if f.severity != "note" and f.kind not in allowed], left
    dataset, _ = open_dataset(config(root, *flags), "train")
    assert len(dataset) == len(checked.dataset)


@pytest.mark.parametrize(
    ("flags", "text"), [(["--splits=all"], "--splits is 'all'; it takes train, val"), (["--datadir=x"], "unknown flag")]
)
def test_invalid_flags(tmp_path, flags, text):
    with pytest.raises(UsageError, match=text):
        check.main(["--config", CONFIG, *flags])


def test_fast_check_before_training(tmp_path, caplog):
    folder = valid_dataset(tmp_path / "data")
    folder.content["categories"].append({"id": 9, "name": "cow"})
    folder.add_box(1, [1, 2, 10, 20])
    folder.write()
    open_dataset(config(tmp_path / "data"), "train")
    assert "1 boxes are duplicates" in caplog.text
    assert "1 classes have no boxes: cow" in caplog.text


def test_real_dataset(data_dir, capsys):
    root = data_dir / "coco_mini"
    assert check.main(["--config", "configs/yolov4.yaml", f"--data_dir={root}", "--quick"]) == 0
    text = capsys.readouterr().out
    assert "images: 215" in text
    assert "images: 206" in text
    assert "0 errors" in text


@pytest.mark.parametrize(("left", "kept"), [(59.1, False), (59, True), (54.5, True), (69, False)])
def test_box_is_clipped_if_half_of_it_remains(tmp_path, left, kept):
    """Boxes of 10 x 10 px in an image of 64 px, of which a width of 4.9, 5, 9.5 or 0 px remains."""
    folder = valid_dataset(tmp_path / "data")
    folder.add_box(2, [left, 10, 10, 10], 7, area=77)
    folder.write()
    out = tmp_path / "fixed"
    check.main([*arguments(tmp_path / "data"), f"--fix={out}", "--splits=train"])
    boxes = [a for a in json.loads((out / "train.json").read_text())["annotations"] if a["bbox"][1] == 10]
    assert len(boxes) == kept
    if kept:
        assert boxes[0]["bbox"] == pytest.approx([left, 10, 64 - left, 10])
        # The area of a mask is unknown if the box is clipped.
        assert boxes[0]["area"] == pytest.approx(77 if left == 54.5 else 10 * (64 - left))
