"""Precision-recall curves and thresholds against a manual count, and the files written."""

import csv
import json

import cv2
import numpy as np
import pytest

from msdet.errors import UserError
from msdet.evaluation.analysis import ClassCurve, class_curves, recommend_thresholds
from msdet.evaluation.coco.score import score_detections
from msdet.evaluation.coco.truth import read_ground_truth

TRUTH = {
    "images": [{"id": i, "file_name": f"{i}.jpg", "width": 100, "height": 100} for i in (1, 2, 3)],
    "categories": [{"id": 5, "name": "cat"}, {"id": 7, "name": "fire/hydrant"}, {"id": 9, "name": "owl"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 5, "bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 5, "bbox": [20, 20, 40, 40], "area": 1600, "iscrowd": 0},
        {"id": 3, "image_id": 3, "category_id": 5, "bbox": [0, 0, 90, 90], "area": 8100, "iscrowd": 1},
        {"id": 4, "image_id": 3, "category_id": 7, "bbox": [10, 50, 30, 30], "area": 900, "iscrowd": 0},
    ],
}


def found(image, category, bbox, score):
    return {"image_id": image, "category_id": category, "bbox": bbox, "score": score}


FOUND = [
    found(1, 5, [10, 10, 40, 40], 0.9),
    found(1, 5, [12, 10, 40, 40], 0.8),  # a duplicate
    found(2, 5, [20, 22, 40, 40], 0.6),
    found(2, 5, [70, 70, 20, 20], 0.6),  # a false positive of the same score
    found(3, 5, [10, 10, 20, 20], 0.99),  # in a crowd: ignored
    found(1, 5, [0, 80, 10, 10], 0.1),
    found(1, 7, [0, 0, 10, 10], 0.5),  # no hydrant
]


@pytest.fixture
def files(tmp_path):
    for name, value in (("truth", TRUTH), ("found", FOUND)):
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    return tmp_path / "truth.json", tmp_path / "found.json"


def test_curves_equal_a_manual_count(files):
    cat, hydrant, owl = class_curves(read_ground_truth(files[0]), files[1])
    assert (cat.name, cat.boxes) == ("cat", 2)
    np.testing.assert_allclose(cat.scores, [0.9, 0.8, 0.6, 0.6, 0.1])
    assert cat.is_true[:2].tolist() == [True, False] and cat.is_true.sum() == 2
    np.testing.assert_allclose(cat.recall[[0, 3, 4]], [0.5, 1, 1])
    np.testing.assert_allclose(cat.precision[[0, 1, 3, 4]], [1, 0.5, 0.5, 0.4])
    # Threshold 0.9: P 1, R 1/2; threshold 0.6, which two detections share: P 1/2, R 1.
    assert cat.best() == pytest.approx((0.9, 1, 0.5, 2 / 3))
    assert hydrant.boxes == 1 and hydrant.best() is None
    assert owl.boxes == 0 and owl.best() is None and len(owl.scores) == 0


def test_the_area_under_a_curve_is_the_scorers_ap50(tmp_path):
    rng = np.random.default_rng(0)
    truth, detections = [], []
    for i in range(40):
        box = [*rng.uniform(0, 50, 2).tolist(), *rng.uniform(10, 50, 2).tolist()]
        truth.append({"id": i + 1, "image_id": 1 + i % 3, "category_id": 5, "bbox": box, "area": 1.0, "iscrowd": 0})
        for _ in range(2):
            moved = (np.array(box) + rng.normal(0, 3, 4)).clip(0.5).tolist()
            detections.append(found(1 + i % 3, 5, moved, round(float(rng.random()), 2)))
    (tmp_path / "t.json").write_text(json.dumps({**TRUTH, "annotations": truth}))
    (tmp_path / "d.json").write_text(json.dumps(detections))
    curve = class_curves(read_ground_truth(tmp_path / "t.json"), tmp_path / "d.json")[0]
    # COCO: mean over 101 recalls of the highest precision at that recall or above.
    later = np.maximum.accumulate(curve.precision[::-1])[::-1]
    ap = np.mean([later[curve.recall >= r].max(initial=0) for r in np.linspace(0, 1, 101)])
    assert ap == pytest.approx(score_detections(tmp_path / "t.json", tmp_path / "d.json").per_class[0].ap50, abs=1e-9)


def test_tied_scores_are_not_separated():
    curve = ClassCurve("x", 2, np.array([0.5, 0.5, 0.2]), np.array([True, False, True]))
    assert curve.best() == pytest.approx((0.2, 2 / 3, 1, 0.8))


def test_the_table_and_charts_are_written(files, tmp_path):
    recommend_thresholds(read_ground_truth(files[0]), files[1], tmp_path / "out")
    with (tmp_path / "out" / "thresholds.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["class", "boxes", "threshold", "precision", "recall", "F1"]
    assert rows[1] == ["cat", "2", "0.9000", "1.0000", "0.5000", "0.6667"]
    assert rows[2] == ["fire/hydrant", "1"] and rows[3] == ["owl", "0"]
    charts = list((tmp_path / "out").glob("*.png"))
    assert [path.name for path in charts] == ["000_cat.png"]
    assert cv2.imread(str(charts[0])).std() > 5


def test_a_result_file_of_other_images(files, tmp_path):
    files[1].write_text(json.dumps([found(99, 5, [0, 0, 1, 1], 0.5)]))
    with pytest.raises(UserError, match="99"):
        recommend_thresholds(read_ground_truth(files[0]), files[1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["$x_{$", "50% {a} \\frac", "../..", "a/b", "x" * 300, "two\nlines", "$a$ $b"])
def test_a_class_may_have_any_name(files, tmp_path, name):
    truth = json.loads(files[0].read_text())
    truth["categories"][0]["name"] = name
    files[0].write_text(json.dumps(truth))
    recommend_thresholds(read_ground_truth(files[0]), files[1], tmp_path / "out")
    with (tmp_path / "out" / "thresholds.csv").open(newline="") as file:
        assert list(csv.reader(file))[1][0] == name
    (chart,) = (tmp_path / "out").glob("*.png")
    assert cv2.imread(str(chart)).std() > 5
