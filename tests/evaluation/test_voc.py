"""VOC average precision: a known answer, a slow loop, difficult objects, invalid result files."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msdet.data.dataset import DetectionDataset, samples_from_arrays
from msdet.errors import UserError
from msdet.evaluation.voc import ImageDetections, ImageObjects, all_points, eleven_points, precision_recall, score_voc
from msdet.ops.boxes import iou_matrix


def read_boxes(folder):
    """The rows of each file by its name, without the class; x, y, width, height come last."""
    files = {path.stem: path.read_text().split("\n") for path in sorted(folder.glob("*.txt"))}
    return {
        name: np.array([[float(word) for word in line.split()[1:]] for line in lines if line.strip()])
        for name, lines in files.items()
    }


def corners(boxes):
    """xyxy boxes: the files give the first and the last pixel, both inclusive."""
    return np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:] + 1), 1)


def test_the_known_answer(data_dir):
    folder = data_dir / "voc_ap_known_answer" / "samples" / "sample_2"
    truths = {
        n: ImageObjects(corners(b), np.zeros(len(b), bool)) for n, b in read_boxes(folder / "groundtruths").items()
    }
    found = {n: ImageDetections(corners(b[:, 1:]), b[:, 0]) for n, b in read_boxes(folder / "detections").items()}
    curve = precision_recall(truths, found, iou=0.3)
    percent = [100 * all_points(*curve), 100 * eleven_points(*curve)]
    # The published values are truncated to two digits: 24.5687 and 26.8398.
    assert percent == pytest.approx([24.56, 26.84], abs=0.01)


def slow_curve(truths, found, iou):
    rows = sorted(
        ((s, image, box) for image, f in found.items() for box, s in zip(f.boxes, f.scores, strict=True)),
        key=lambda row: -row[0],
    )
    taken, true, false, curve = set(), 0, 0, []
    objects = sum((~truth.ignored).sum() for truth in truths.values())
    for _, image, box in rows:
        best, owner = 0.0, None
        if image in truths:
            for j, other in enumerate(truths[image].boxes):
                overlap = iou_matrix(box[None], other[None])[0, 0]
                if overlap > best:
                    best, owner = overlap, j
        if best >= iou and truths[image].ignored[owner]:
            continue
        if best >= iou and (image, owner) not in taken:
            taken.add((image, owner))
            true += 1
        else:
            false += 1
        curve.append((true / max(objects, 1), true / (true + false)))
    return curve


def slow_areas(curve):
    """11-point AP, and the area under the curve as a sum over the true positives."""
    eleven = sum(max([p for r, p in curve if r >= t / 10], default=0) for t in range(11)) / 11
    area, before = 0.0, 0.0
    for r, _ in curve:
        area += (r - before) * max(p for other, p in curve if other >= r)
        before = r
    return eleven, area


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_curves_equal_those_of_a_slow_loop(seed):
    rng = np.random.default_rng(seed)
    truths, found = {}, {}
    for image in range(4):
        start = rng.uniform(0, 40, (rng.integers(0, 5), 2))
        boxes = np.concatenate((start, start + rng.uniform(5, 30, start.shape)), 1)
        if len(boxes):
            truths[image] = ImageObjects(boxes, rng.uniform(size=len(boxes)) < 0.3)
        near = np.repeat(boxes, rng.integers(0, 3), 0) + rng.normal(0, 3, (1, 4))
        far = rng.uniform(0, 40, (rng.integers(0, 4), 2))
        detections = np.concatenate((near, np.concatenate((far, far + 10), 1)))
        # Scores of two decimals, so that there are ties, which keep the order of the images.
        found[image] = ImageDetections(detections, rng.uniform(size=len(detections)).round(2))
    recall, precision = precision_recall(truths, found)
    expected = slow_curve(truths, found, 0.5)
    np.testing.assert_allclose(np.stack((recall, precision), 1).reshape(-1, 2), np.reshape(expected, (-1, 2)))
    np.testing.assert_allclose((eleven_points(recall, precision), all_points(recall, precision)), slow_areas(expected))


def make_dataset(difficult=False):
    """Two images with one cat each, the second optionally difficult; no dog."""
    boxes = np.array([[0, 0, 10, 10], [5, 5, 25, 25]], np.float32)
    flags = np.zeros(2, bool), np.array([False, difficult])
    samples = samples_from_arrays(["a.jpg", "b.jpg"], ["a", "b"], [(30, 30)] * 2, np.array([1, 1]), boxes,
                            np.zeros(2, np.int32), *flags)  # fmt: skip
    return DetectionDataset(samples, ["cat", "dog"], [7, 8], Path("list.txt"), Path())


def record(image, box, score, category=7):
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


def test_classes_without_objects_have_no_score_and_are_excluded_from_the_mean():
    records = [record("a", [0, 0, 10, 10], 0.9), record("b", [0, 0, 3, 3], 0.8, category=8)]
    result = score_voc(make_dataset(), records)
    assert [(s.name, s.objects) for s in result.per_class] == [("cat", 2), ("dog", 0)]
    assert math.isnan(result.per_class[1].ap_all)
    # One of two objects found, no false positive: recall reaches 0.5, at or below which are six of the eleven points.
    assert result.map_all == pytest.approx(0.5) and result.map_11 == pytest.approx(6 / 11)
    assert result.score == result.map_11 and score_voc(make_dataset(), records, "all_points").score == result.map_all
    assert "cat" in result.summary_text and "0.5455" in result.summary_text


def test_a_difficult_object_is_ignored():
    records = [record("a", [0, 0, 10, 10], 0.9)]
    assert score_voc(make_dataset(difficult=True), records).map_all == 1
    records.append(record("b", [5, 5, 20, 20], 0.95))
    assert score_voc(make_dataset(difficult=True), records).map_all == 1
    # The same detection is a true positive if the object is not difficult.
    assert score_voc(make_dataset(), records).map_all == 1


def test_a_second_detection_of_an_object_is_a_false_positive():
    records = [record("a", [0, 0, 10, 10], 0.9), record("a", [0, 0, 10, 10], 0.8), record("b", [5, 5, 20, 20], 0.7)]
    assert score_voc(make_dataset(), records).map_all == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_no_detections_score_zero():
    assert score_voc(make_dataset(), []).map_all == 0


def test_detections_of_another_dataset_are_refused():
    with pytest.raises(UserError, match="'c'.*list.txt"):
        score_voc(make_dataset(), [record("c", [0, 0, 1, 1], 0.5)])


def test_an_iou_of_exactly_one_half_is_a_match():
    """A slightly lower one is not."""
    assert score_voc(make_dataset(), [record("a", [0, 0, 10, 5], 0.9)]).map_all == 0.5
    assert score_voc(make_dataset(), [record("a", [0, 0, 10, 4.99], 0.9)]).map_all == 0


def test_a_crowd_region_is_ignored():
    dataset = make_dataset()
    dataset.samples[1].iscrowd[:] = True
    records = [record("a", [0, 0, 10, 10], 0.9)]
    for more in ([], [record("b", [5, 5, 20, 20], 0.95)]):
        result = score_voc(dataset, [*records, *more])
        assert result.map_all == 1 and result.per_class[0].objects == 1
