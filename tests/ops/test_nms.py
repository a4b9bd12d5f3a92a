"""Non-maximum suppression against slow reference versions."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msdet.ops.nms import descending_order, greedy_nms, soft_nms

ROOT = Path(__file__).resolve().parents[2]
# A coarse grid makes equal boxes, touching boxes and boxes without area common; few scores make ties common.
CORNER = st.integers(0, 12)
BOX = st.tuples(CORNER, CORNER, CORNER, CORNER).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))
)
CANDIDATE = st.tuples(BOX, st.sampled_from([0.05, 0.3, 0.5, 0.7, 0.9, 0.95]), st.integers(0, 2))
CANDIDATES = st.lists(CANDIDATE, max_size=30)
LIMITS = st.fixed_dictionaries(
    {name: st.sampled_from([0, 0, 1, 2, 5]) for name in ("top_k", "top_k_per_class", "max_detections", "max_per_class")}
)
NO_LIMITS = {"top_k": 0, "top_k_per_class": 0, "max_detections": 0, "max_per_class": 0}


def arrays(candidates):
    boxes = np.array([box for box, _, _ in candidates], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score, _ in candidates], np.float32)
    labels = np.array([label for _, _, label in candidates], np.int32)
    return boxes, scores, labels


def iou(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if width * height > 0 else 0.0


def diou(a, b):
    distance = np.sum(((a[:2] + a[2:]) / 2.0 - (b[:2] + b[2:]) / 2.0) ** 2)
    diagonal = np.sum((np.maximum(a[2:], b[2:]) - np.minimum(a[:2], b[:2])) ** 2.0)
    return iou(a, b) - (distance / diagonal if diagonal > 0 else 0)


def entrants(scores, labels, limits):
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    order = order[: limits["top_k"] or None]
    per_class = limits["top_k_per_class"] or len(order)
    return [i for n, i in enumerate(order) if sum(labels[j] == labels[i] for j in order[:n]) < per_class]


def full(kept, label, labels, limits):
    return bool(limits["max_per_class"]) and sum(labels[j] == label for j in kept) >= limits["max_per_class"]


def slow_greedy(boxes, scores, labels, threshold, overlap, limits):
    kept = []
    for i in entrants(scores, labels, limits):
        same = [j for j in kept if labels[j] == labels[i]]
        if not full(kept, labels[i], labels, limits) and all(overlap(boxes[i], boxes[j]) <= threshold for j in same):
            kept.append(i)
    return kept[: limits["max_detections"] or None]


def slow_soft(boxes, scores, labels, threshold, sigma, min_score, limits):
    left = {i: float(scores[i]) for i in entrants(scores, labels, limits) if scores[i] > np.float32(min_score)}
    kept, final = [], []
    while left and len(kept) < (limits["max_detections"] or len(scores)):
        best = min(left, key=lambda i: (-left[i], -scores[i], i))
        score = left.pop(best)
        if full(kept, labels[best], labels, limits):
            continue
        kept.append(best)
        final.append(score)
        for i in list(left):
            if labels[i] == labels[best]:
                overlap = iou(boxes[i], boxes[best])
                if sigma:
                    left[i] *= math.exp(-(overlap * overlap) / sigma)
                elif overlap > threshold:
                    left[i] *= 1 - overlap
            if left[i] <= np.float32(min_score):
                del left[i]
    return kept, final


@settings(max_examples=200, deadline=None)
@given(CANDIDATES, st.sampled_from([0.0, 0.2, 1 / 3, 0.5, 0.7, 1.0]), st.booleans(), LIMITS)
def test_greedy_and_diou_equal_the_reference(candidates, threshold, distance, limits):
    boxes, scores, labels = arrays(candidates)
    kept = greedy_nms(boxes, scores, labels, threshold, distance=distance, **limits)
    assert kept.tolist() == slow_greedy(boxes, scores, labels, threshold, diou if distance else iou, limits)


@settings(max_examples=100, deadline=None)
@given(CANDIDATES, st.sampled_from([0.0, 0.1, 0.5]), st.sampled_from([0.0, 0.1, 0.4]), LIMITS)
def test_soft_equals_the_reference(candidates, sigma, min_score, limits):
    boxes, scores, labels = arrays(candidates)
    kept, decayed = soft_nms(boxes, scores, labels, sigma=sigma, threshold=0.3, min_score=min_score, **limits)
    slow_kept, slow_scores = slow_soft(boxes, scores, labels, 0.3, sigma, min_score, limits)
    assert kept.tolist() == slow_kept
    np.testing.assert_allclose(decayed, slow_scores, rtol=1e-6)
    assert np.all(np.diff(decayed) <= 0)


@pytest.mark.parametrize("distance", [False, True])
def test_many_random_boxes(distance):
    rng = np.random.default_rng(3)
    centres, sizes = rng.uniform(0, 300, (400, 2)), rng.uniform(5, 120, (400, 2))
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1).astype(np.float32)
    scores, labels = rng.random(400, dtype=np.float32), rng.integers(0, 4, 400).astype(np.int32)
    kept = greedy_nms(boxes, scores, labels, 0.45, distance=distance)
    assert kept.tolist() == slow_greedy(boxes, scores, labels, 0.45, diou if distance else iou, NO_LIMITS)
    soft_kept, _ = soft_nms(boxes, scores, labels, sigma=0.3, min_score=0.2)
    assert soft_kept.tolist() == slow_soft(boxes, scores, labels, 0.5, 0.3, 0.2, NO_LIMITS)[0]


def test_there_is_no_extra_pixel():
    """Two boxes of 10 x 10 px that share 5 x 10: IoU 1/3 exactly (with "+ 1" it would be 66/176 = 0.375)."""
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10]], np.float32)
    scores, labels = np.array([0.9, 0.8], np.float32), np.zeros(2, np.int32)
    assert len(greedy_nms(boxes, scores, labels, 0.34)) == 2
    assert len(greedy_nms(boxes, scores, labels, 0.33)) == 1


def test_diou_keeps_boxes_with_distant_centres():
    """IoU 0.6; the centres are 2.5 px apart, the enclosing diagonal is hypot(12.5, 10): DIoU = 0.6 - 6.25 / 256.25."""
    boxes = np.array([[0, 0, 10, 10], [2.5, 0, 12.5, 10]], np.float32)
    scores, labels = np.array([0.9, 0.8], np.float32), np.zeros(2, np.int32)
    assert len(greedy_nms(boxes, scores, labels, 0.58)) == 1
    assert len(greedy_nms(boxes, scores, labels, 0.58, distance=True)) == 2
    assert len(greedy_nms(boxes, scores, labels, 0.57, distance=True)) == 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False) | st.sampled_from([-0.0, 0.0, 0.5])))
def test_descending_order_is_stable(scores):
    values = np.array(scores, np.float32)
    assert descending_order(values).tolist() == np.argsort(-values, kind="stable").tolist()


def test_one_box_for_several_classes():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10]], np.float32)
    kept = greedy_nms(boxes, [0.9, 0.8, 0.7], [0, 1, 0], 0.5, box_index=np.array([0, 0, 1]))
    assert kept.tolist() == [0, 1]


@pytest.mark.parametrize(("labels", "index"), [([-1, 0], [0, 1]), ([0, 0], [0, 2]), ([0, 0], [-1, 0]), ([0], [0, 1])])
def test_wrong_indices_never_reach_compiled_code(labels, index):
    boxes = np.zeros((2, 4), np.float32)
    with pytest.raises(ValueError, match=r"label|box_index"):
        greedy_nms(boxes, [0.5, 0.4], labels, 0.5, box_index=np.array(index))


def test_importing_does_not_import_numba():
    script = "import sys, msdet.ops.nms, msdet.ops.postprocess; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0
