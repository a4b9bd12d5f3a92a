"""Scoring uses the annotations as training reads them; skipped boxes and images are not scored."""

import codecs
import csv
import json

import numpy as np
import pytest

import eval as evaluation
from tests.data import all_formats as formats
from tests.data.conftest import CocoFolder
from tests.in_process import run

pytestmark = pytest.mark.usefixtures("at_root")
FLAGS = ("--config=configs/yolov3.yaml", "--num_classes=0", "--testing_shape=64")


@pytest.fixture
def folder(tmp_path):
    """Three images with boxes of all sizes, detected exactly in `found.json` except the crowd region."""
    folder = CocoFolder(tmp_path / "data")
    folder.image_dir = folder.image_dir.rename(folder.root / "val")
    folder.ann_file = folder.ann_file.with_name("val.json")
    folder.add_image(10, 200, 160, boxes=[[1, 2, 20, 20]])
    folder.add_box(10, [30.25, 4, 60, 60], 7)
    folder.add_image(2, 200, 160, boxes=[[5, 5, 150, 120]], category_id=7)
    folder.add_image("three", 200, 160, boxes=[[50, 50, 40, 31.5]])
    folder.add_box(2, [0, 0, 30, 30], iscrowd=1)
    for entry in folder.content["annotations"]:
        # Areas of masks: by them the second box is small, the third medium.
        entry["area"] = [380, 900, 4000, 1000, 500][entry["id"] - 1]
    folder.write()
    write_found(folder)
    return folder


def write_found(folder, extra=()):
    records = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
        for a in folder.content["annotations"]
        if not a["iscrowd"]
    ]
    (folder.root / "found.json").write_text(json.dumps([*records, *extra]))


def score(folder, capsys, *flags, code=0):
    """The twelve statistics that `msdet eval` prints, in order."""
    out = folder.root / "out"
    args = [*FLAGS, f"--data_dir={folder.root}", f"--detections={folder.root}/found.json", f"--log_path={out}", *flags]
    assert run(evaluation.main, *args) == code
    captured = capsys.readouterr()
    if code:
        return captured.err
    return [float(line.rpartition("= ")[2]) for line in captured.out.splitlines() if "@[ IoU" in line]


PERFECT = [1, 1, 1, 1, 1, -1, 1, 1, 1, 1, 1, -1]


def _annotation(**values):
    return lambda content: content["annotations"][0].update(values)


def _encode(encoding, bom=b""):
    def write(path):
        path.write_bytes(bom + path.read_text().encode(encoding))

    return write


def _all(key, change):
    def rewrite(content):
        for entry in content["annotations"]:
            entry[key] = change(entry[key])

    return rewrite


def _float_ids(content):
    for entry in [*content["categories"], *(i for i in content["images"] if i["id"] != "three")]:
        entry["id"] = float(entry["id"])


ODD = {
    "area nan": _annotation(area=float("nan")),
    "area inf": _annotation(area=float("inf")),
    "area text": _annotation(area="380"),
    "area null": _annotation(area=None),
    "area of 401 digits": _annotation(area=10**400),
    "area 1e300": _annotation(area=1e300),
    "area negative": _annotation(area=-5),
    "area true": _annotation(area=True),
    "area a list": _annotation(area=[380]),
    "float category_id": _all("category_id", float),
    "float image_id": _all("image_id", lambda value: value if value == "three" else float(value)),
    "float ids of all": _float_ids,
    "float ids of annotations": _all("id", float),
    "iscrowd true": _all("iscrowd", bool),
    "byte order mark": _encode("utf-8", codecs.BOM_UTF8),
    "utf-16": _encode("utf-16"),
    "utf-16 without mark": _encode("utf-16-le"),
    "utf-32": _encode("utf-32"),
}


@pytest.mark.parametrize("oddity", ODD)
def test_annotations_that_training_accepts_are_scored(folder, capsys, oddity):
    """Boxes, areas, crowds and categories are the same as without the oddity."""
    assert score(folder, capsys) == PERFECT
    change = ODD[oddity]
    if "encode" in change.__qualname__:
        change(folder.ann_file)
    else:
        change(folder.content)
        folder.write()
    assert score(folder, capsys) == PERFECT


def test_annotated_areas_determine_the_size_and_missing_ones_are_logged_once(folder, capsys):
    for entry in folder.content["annotations"]:
        del entry["area"]
    folder.write()
    # By width x height one box is small, two are medium, one is large.
    assert score(folder, capsys) == [1] * 12
    folder.content["annotations"][2]["area"] = "4000"
    folder.write()
    assert run(evaluation.main, *FLAGS, f"--data_dir={folder.root}", f"--detections={folder.root}/found.json",
               f"--log_path={folder.root}/out") == 0  # fmt: skip
    text = capsys.readouterr().out
    assert text.count("width x height") == 1
    assert "'4000'" in text and "annotation 3" in text


BAD_BOXES = {
    "empty": [],
    "three numbers": [1, 2, 3],
    "no area": [1, 1, 0, 5],
    "nan": [1, 1, float("nan"), 5],
    "outside": [190, 1, 50, 5],
    "text": ["1", 1, 5, 5],
    "negative": [9, 9, -5, 5],
}


@pytest.mark.parametrize("kind", BAD_BOXES)
def test_a_skipped_invalid_box_is_not_an_object(folder, capsys, kind):
    folder.add_box(10, BAD_BOXES[kind], area=100)
    folder.write()
    assert "on_bad_box=skip" in score(folder, capsys, code=1)
    assert score(folder, capsys, "--on_bad_box=skip") == PERFECT


def test_a_box_clipped_to_its_image_is_scored_as_clipped(folder, capsys):
    folder.add_box("three", [-1, 20, 3, 40], 7, area=80)
    folder.write()
    write_found(folder)
    records = json.loads((folder.root / "found.json").read_text())
    records[-1]["bbox"] = [0, 20, 2, 40]
    (folder.root / "found.json").write_text(json.dumps(records))
    assert score(folder, capsys) == PERFECT


@pytest.mark.parametrize("scorer", ["hotcoco", "pycocotools"])
def test_a_skipped_missing_image_is_not_scored(folder, capsys, scorer):
    """Neither its objects nor detections on it count."""
    (folder.image_dir / "2.jpg").unlink()
    extra = [{"image_id": 2, "category_id": 3, "bbox": [0, 0, 9, 9], "score": 0.99}]
    write_found(folder, extra)
    flags = (f"--scorer={scorer}", "--recommend_threshold=1")
    assert score(folder, capsys, "--on_bad_image=skip", *flags)[0] == 1
    (thresholds,) = folder.root.glob("out/*/thresholds/thresholds.csv")
    with thresholds.open() as file:
        assert [row[:2] for row in csv.reader(file)][1:] == [["cat", "2"], ["dog", "1"]]
    with next(folder.root.glob("out/*/per_class.csv")).open() as file:
        assert [row[:2] for row in csv.reader(file)][1:] == [["cat", "2"], ["dog", "1"]]


def test_a_skipped_missing_image_of_a_voc_dataset_is_not_scored(tmp_path, capsys):
    root = formats.write_voc(tmp_path / "data")
    (root / "JPEGImages" / "c_d.jpg").unlink()
    (tmp_path / "data" / "found.json").write_text(json.dumps([
        {"image_id": "a", "category_id": 17, "bbox": [1, 2, 10, 20], "score": 0.9},
        {"image_id": "c_d", "category_id": 17, "bbox": [1, 2, 10, 20], "score": 0.95},
        {"image_id": "a", "category_id": 58, "bbox": [30, 4, 11, 10], "score": 0.9},
    ]))  # fmt: skip
    flags = [*FLAGS, f"--data_dir={root}", f"--detections={root}/found.json", f"--log_path={tmp_path}/out"]
    assert run(evaluation.main, *flags, "--on_bad_image=skip") == 0
    text = capsys.readouterr().out
    assert "mAP: 1.0" in text
    assert np.isclose(float(next(line for line in text.splitlines() if "area=   all | maxDets=100" in line)[-5:]), 1)


def test_detections_of_an_unused_category_are_ignored(folder, capsys):
    """The category is in the file but not in `class_names`: no warning, even if there are no other detections."""
    folder.content["categories"].append({"id": 9, "name": "owl"})
    folder.write()
    owl = {"image_id": 10, "category_id": 9, "bbox": [1, 2, 20, 20], "score": 0.99}
    write_found(folder, [owl])
    assert score(folder, capsys, "--class_names=cat,dog") == PERFECT
    (folder.root / "found.json").write_text(json.dumps([owl]))
    assert score(folder, capsys, "--class_names=cat,dog")[0] == 0
