"""COCO scoring: both backends against plain pycocotools, text ids, unknown ids, invalid files."""

from __future__ import annotations

import builtins
import contextlib
import csv
import io
import json
import logging
import math

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from msdet.errors import UserError
from msdet.evaluation.coco.score import (
    BACKENDS,
    STAT_NAMES,
    SUMMARY_HEADER,
    format_per_class,
    score_detections,
    write_per_class_csv,
)
from msdet.evaluation.coco.truth import read_ground_truth
from tests.evaluation.coco.small import FOUND, SMALL, write


def pseudo_detections(dataset, seed=0):
    """Detections made from ground truth (crowds too): jittered, duplicated, missing, misclassified and false ones, with
    tied scores."""
    rng = np.random.default_rng(seed)
    categories = [category["id"] for category in dataset["categories"]]
    skipped = {image["id"] for image in dataset["images"][::9]}
    found = []
    for annotation in dataset["annotations"]:
        if annotation["image_id"] in skipped:
            continue
        for _ in range(rng.integers(0, 4)):
            x, y, w, h = annotation["bbox"]
            dx, dy, dw, dh = rng.normal(0, 0.12, 4)
            box = [x + dx * w, y + dy * h, w * math.exp(dw), h * math.exp(dh)]
            category = int(rng.choice(categories)) if rng.random() < 0.15 else annotation["category_id"]
            score = round(float(rng.random()), int(rng.integers(1, 4)))
            found.append({"image_id": annotation["image_id"], "category_id": category, "bbox": box, "score": score})
    for image in dataset["images"][1::2]:
        corner, size = rng.uniform(0, 200, 2), rng.uniform(5, 200, 2)
        category = int(rng.choice(categories))
        box = [*corner.tolist(), *size.tolist()]
        found.append({"image_id": image["id"], "category_id": category, "bbox": box, "score": 0.5})
    rng.shuffle(found)
    return found


def plain_pycocotools(ann_file, found):
    """The twelve statistics, per-class AP and summary lines of plain pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()) as text:
        truth = COCO(str(ann_file))
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    curves = evaluation.eval["precision"][:, :, :, 0, 2]
    classes = [np.mean(c[c > -1]) if (c > -1).any() else math.nan for c in np.moveaxis(curves, 2, 0)]
    lines = [line for line in text.getvalue().splitlines() if "@[" in line]
    return evaluation.stats, classes, lines


@pytest.mark.parametrize("split", ["val2017", "train2017"])
def test_both_backends_agree_with_plain_pycocotools(data_dir, tmp_path, capfd, split):
    ann_file = data_dir / "coco_mini" / "annotations" / f"instances_{split}.json"
    found = pseudo_detections(json.loads(ann_file.read_text()))
    file = write(tmp_path / "found.json", found)
    stats, classes, lines = plain_pycocotools(ann_file, found)
    results = {backend: score_detections(ann_file, file, backend) for backend in BACKENDS}
    for result in results.values():
        np.testing.assert_allclose(result.stats, stats, rtol=0, atol=1e-9)
        np.testing.assert_allclose([score.ap for score in result.per_class], classes, rtol=0, atol=1e-9)
        assert result.summary_text.splitlines() == [SUMMARY_HEADER, *lines]
        assert result.images == len(json.loads(ann_file.read_text())["images"])
        assert result.detections == len(found)
    fast, slow = (results[backend].per_class for backend in BACKENDS)
    np.testing.assert_allclose([s.ap50 for s in fast], [s.ap50 for s in slow], rtol=0, atol=1e-9)
    assert 0.1 < results["hotcoco"].ap < results["hotcoco"].ap50 < 0.95  # a case that is neither trivial nor perfect
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("backend", BACKENDS)
def test_text_ids_score_like_numeric_ids(data_dir, tmp_path, backend):
    ann_file = data_dir / "coco_mini" / "annotations" / "instances_val2017.json"
    dataset = json.loads(ann_file.read_text())
    chosen = {image["id"] for image in dataset["images"][:40]}
    dataset["images"] = [image for image in dataset["images"] if image["id"] in chosen]
    dataset["annotations"] = [a for a in dataset["annotations"] if a["image_id"] in chosen]
    found = pseudo_detections(dataset, seed=1)
    expected = score_detections(read_ground_truth(ann_file, sorted(chosen)), found, backend)
    width = max(len(str(image["id"])) for image in dataset["images"])  # so that text sorts as the numbers do

    def renamed(record):
        return record | {"image_id": f"img {record['image_id']:0{width}d}"}

    images = [image | {"id": f"img {image['id']:0{width}d}"} for image in dataset["images"]]
    annotations = [
        {"id": a["id"], "image_id": f"img {a['image_id']:0{width}d}", "category_id": a["category_id"]}
        | {"bbox": a["bbox"], "area": a["area"]}
        | ({"iscrowd": 1} if a["iscrowd"] else {})
        for a in dataset["annotations"]
    ]  # iscrowd only where it is 1
    own = write(tmp_path / "own.json", dataset | {"images": images, "annotations": annotations})
    result = score_detections(own, [renamed(record) for record in found], backend)
    assert result.stats == expected.stats
    assert str(result.per_class) == str(expected.per_class)


@pytest.mark.parametrize("backend", BACKENDS)
def test_known_answer(tmp_path, backend):
    """Cat: recall 1/2 at precision 1 = 51 of 101 points. Dog: recall 1 at precision 1/2. Owl: no ground truth."""
    result = score_detections(write(tmp_path / "a.json", SMALL), FOUND, backend)
    cat, dog, owl = result.per_class
    assert cat == ("cat", pytest.approx(51 / 101), pytest.approx(51 / 101), 2)
    assert dog == ("dog", pytest.approx(0.5), pytest.approx(0.5), 1)
    assert (owl.name, owl.boxes) == ("owl", 0) and math.isnan(owl.ap)
    assert result.ap == pytest.approx((51 / 101 + 0.5) / 2)
    assert result.named()["APl"] == -1
    assert tuple(result.named()) == STAT_NAMES
    # The annotation with id 0, which plain pycocotools never counts as matched, is counted.
    assert result.named()["AR100"] == pytest.approx(0.75)


def test_summary_is_the_documented_one(tmp_path):
    lines = score_detections(write(tmp_path / "a.json", SMALL), FOUND).summary_text.splitlines()
    assert lines[0] == "=============coco eval reulst========="
    assert lines[1] == " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.502"
    assert lines[2] == " Average Precision  (AP) @[ IoU=0.50      | area=   all | maxDets=100 ] = 0.502"
    assert lines[5] == " Average Precision  (AP) @[ IoU=0.50:0.95 | area=medium | maxDets=100 ] = 0.505"
    assert lines[7] == " Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets=  1 ] = 0.750"
    assert len(lines) == 13


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_detections_score_zero(tmp_path, backend):
    result = score_detections(write(tmp_path / "a.json", SMALL), [], backend)
    assert [value for name, value in result.named().items() if name not in ("APl", "ARl")] == [0] * 10
    assert result.named()["APl"] == -1  # no large object
    assert result.images == 2


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("found", [FOUND, []])
def test_missing_ground_truth_is_warned_of(tmp_path, backend, found, caplog):
    result = score_detections(write(tmp_path / "a.json", SMALL | {"annotations": []}), found, backend)
    assert set(result.stats) == {-1}
    assert "no annotation in the 2 scored images" in caplog.text


def test_detections_of_unknown_categories_are_skipped(tmp_path, caplog):
    ann_file = write(tmp_path / "a.json", SMALL)
    unknown = dict(FOUND[0], category_id=12)
    result = score_detections(ann_file, [*FOUND, unknown])
    assert result.stats == score_detections(ann_file, FOUND).stats
    assert "1 of 4 detections have a category" in caplog.text and "[12]" in caplog.text
    with pytest.raises(UserError, match="belong together"):
        score_detections(ann_file, [unknown])


def test_detections_of_unknown_images_are_refused(tmp_path):
    ann_file = write(tmp_path / "a.json", SMALL)
    file = write(tmp_path / "found.json", [FOUND[0], dict(FOUND[0], image_id="7")])
    with pytest.raises(UserError, match=r"found.json: record 1 has image_id '7', which .*a.json does not have"):
        score_detections(ann_file, file)
    with pytest.raises(UserError, match="has no image_id 99"):
        read_ground_truth(ann_file, image_ids=[7, 99])


def test_a_missing_scorer_falls_back_and_an_unknown_one_is_refused(tmp_path, monkeypatch, caplog):
    ann_file = write(tmp_path / "a.json", SMALL)
    expected = score_detections(ann_file, FOUND)
    real = builtins.__import__

    def without_hotcoco(name, *args, **kwargs):
        if name == "hotcoco":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_hotcoco)
    assert score_detections(ann_file, FOUND).stats == pytest.approx(expected.stats, abs=1e-9)
    assert any("hotcoco is not installed" in r.message and r.levelno == logging.WARNING for r in caplog.records)
    with pytest.raises(UserError, match="hotcoco, pycocotools"):
        score_detections(ann_file, FOUND, "faster")


ANNOTATION = SMALL["annotations"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ([], "not a COCO annotation file"),
        ({"annotations": None}, "the key 'annotations' is missing"),
        ({"categories": [{"name": "cat"}]}, "category 0 needs an integer 'id'"),
        ({"images": ["a.jpg"]}, "not a COCO annotation file"),
        ({"annotations": [ANNOTATION, 5]}, "not a COCO annotation file"),
        ({"annotations": [{"bbox": [1, 2, 3, 4]}]}, "the key 'id' and 'image_id' and 'category_id' is missing"),
        ({"annotations": [dict(ANNOTATION, image_id=70)]}, "annotation 0: no image has the id 70"),
        ({"annotations": [dict(ANNOTATION, category_id=70)]}, "no category has the id 70"),
        ({"annotations": [dict(ANNOTATION, bbox=[1, 2, 3])]}, r"annotation 0: .*\[1, 2, 3\] .* four finite numbers"),
        ({"annotations": [dict(ANNOTATION, bbox=None)]}, "the key 'bbox' is missing"),
    ],
)
def test_invalid_annotation_files_are_refused(tmp_path, change, message):
    ann_file = write(tmp_path / "broken.json", SMALL | change if change else change)
    with pytest.raises(UserError, match=message) as raised:
        score_detections(ann_file, FOUND)
    assert "broken.json" in str(raised.value)


def test_unreadable_annotation_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="is missing"):
        score_detections(tmp_path / "absent.json", FOUND)
    (tmp_path / "a.json").write_bytes(b"\xff{")
    with pytest.raises(UserError, match="JSON"):
        score_detections(tmp_path / "a.json", FOUND)


def test_the_per_class_table_and_csv(tmp_path):
    result = score_detections(write(tmp_path / "a.json", SMALL), FOUND)
    assert format_per_class(result).splitlines() == [
        "class  boxes     AP   AP50",
        "cat        2  0.505  0.505",
        "dog        1  0.500  0.500",
        "owl        0      -      -",
    ]
    write_per_class_csv(result, tmp_path / "made" / "per_class.csv")
    with (tmp_path / "made" / "per_class.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["class", "boxes", "AP", "AP50"]
    assert rows[1][:2] == ["cat", "2"] and float(rows[1][2]) == result.per_class[0].ap
    assert rows[3] == ["owl", "0", "", ""]
