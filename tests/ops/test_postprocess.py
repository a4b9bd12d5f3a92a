"""Post-processing of one image against a slow reference version."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msdet.config import load_config
from msdet.errors import UserError
from msdet.models.recipe import get_recipe
from msdet.ops.postprocess import Detections, PostprocessOptions, postprocess

OPTIONS = st.builds(
    PostprocessOptions,
    score_threshold=st.sampled_from([0.0, 0.001, 0.25, 0.5]),
    nms_threshold=st.sampled_from([0.0, 0.45, 0.5, 1.0]),
    nms_type=st.sampled_from(["greedy", "diou"]),
    max_detections=st.sampled_from([0, 1, 5]),
    pre_nms_top_k_per_class=st.sampled_from([0, 2]),
    multi_label=st.booleans(),
    multi_label_thresh=st.sampled_from([0.0, 0.5]),
)


def overlap(a, b, nms_type):
    a, b = a.astype(np.float64), b.astype(np.float64)
    inter = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    value = inter / union if inter > 0 else 0.0
    if nms_type == "diou":
        distance = np.sum(((a[:2] + a[2:]) / 2 - (b[:2] + b[2:]) / 2) ** 2)
        diagonal = np.sum((np.maximum(a[2:], b[2:]) - np.minimum(a[:2], b[:2])) ** 2)
        value -= distance / diagonal if diagonal > 0 else 0
    return value


def slow_candidates(scores, options):
    candidates = []
    for k, row in enumerate(scores):
        for c, score in enumerate(row):
            if not score > np.float32(options.score_threshold):
                continue
            if score > np.float32(options.multi_label_thresh) if options.multi_label else c == row.argmax():
                candidates.append((k, c, score))
    return candidates


def slow_postprocess(boxes, scores, options):
    candidates = sorted(slow_candidates(scores, options), key=lambda kcs: -kcs[2])
    kept, seen = [], {}
    for k, c, score in candidates:
        seen[c] = seen.get(c, 0) + 1
        same = [j for j, d, _ in kept if c == d]
        if options.pre_nms_top_k_per_class and seen[c] > options.pre_nms_top_k_per_class:
            continue
        if all(overlap(boxes[k], boxes[j], options.nms_type) <= options.nms_threshold for j in same):
            kept.append((k, c, score))
    return kept[: options.max_detections or None]


def random_image(seed, count, classes, levels=None):
    rng = np.random.default_rng(seed)
    centres, sizes = rng.integers(0, 30, (count, 2)), rng.integers(1, 30, (count, 2))
    boxes = np.concatenate([centres, centres + sizes], axis=1).astype(np.float32)
    scores = rng.random((count, classes), dtype=np.float32)
    return boxes, (scores if levels is None else np.floor(scores * levels) / levels).astype(np.float32)


def assert_equal(found, expected, boxes):
    assert found.labels.tolist() == [c for _, c, _ in expected]
    assert found.scores.tolist() == [float(score) for _, _, score in expected]
    np.testing.assert_array_equal(found.boxes, boxes[[k for k, _, _ in expected]].reshape(-1, 4))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 25), st.integers(1, 6), OPTIONS)
def test_equals_the_reference(seed, count, classes, options):
    boxes, scores = random_image(seed, count, classes, levels=4)
    assert_equal(postprocess(boxes, scores, options), slow_postprocess(boxes, scores, options), boxes)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("nms_type", ["greedy", "diou"])
def test_equals_the_reference_on_a_large_image(multi_label, nms_type):
    boxes, scores = random_image(5, 500, 7)
    options = PostprocessOptions(0.8, 0.5, nms_type, max_detections=100, multi_label=multi_label)
    assert_equal(postprocess(boxes, scores, options), slow_postprocess(boxes, scores, options), boxes)


def test_soft_keeps_all_boxes_with_lower_scores():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]], np.float32)
    scores = np.array([[0.9], [0.8], [0.5]], np.float32)
    found = postprocess(boxes, scores, PostprocessOptions(0.01, nms_type="soft"))
    np.testing.assert_allclose(found.scores, [0.9, 0.5, 0.8 * np.exp(-2)], rtol=1e-6)


def test_nothing_passes():
    for count in (0, 3):
        boxes, scores = random_image(1, count, 4)
        found = postprocess(boxes, scores * 0, PostprocessOptions())
        assert (found.boxes.shape, found.scores.shape, found.labels.shape) == ((0, 4), (0,), (0,))
        assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == (np.float32, np.float32, np.int32)
        assert len(found) == 0
        assert isinstance(found, Detections)


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("multi_label", [False, True])
def test_an_output_that_is_not_finite_is_an_error(value, multi_label):
    boxes, scores = random_image(2, 5, 3)
    options = PostprocessOptions(0.0, multi_label=multi_label)
    bad_scores = scores.copy()
    bad_scores[3, 1] = value
    with pytest.raises(UserError, match=r"not finite: a score of box 3"):
        postprocess(boxes, bad_scores, options)
    bad_boxes = boxes.copy()
    bad_boxes[2, 3] = value
    with pytest.raises(UserError, match=r"not finite: box 2 \["):
        postprocess(bad_boxes, scores, options)
    scores[2] = 0  # its box is not a candidate
    postprocess(bad_boxes, scores, replace(options, score_threshold=0.0))


def test_negative_scores_never_pass():
    boxes, _ = random_image(3, 2, 3)
    scores = np.array([[-0.9, 0.2, 0.1], [-0.9, -0.2, -0.1]], np.float32)
    for multi_label, labels in ((False, [1]), (True, [1, 2])):
        options = PostprocessOptions(0.05, multi_label=multi_label)
        assert postprocess(boxes, scores, options).labels.tolist() == labels


def test_mismatched_shapes():
    with pytest.raises(ValueError, match=r"\(K,4\)"):
        postprocess(np.zeros((3, 4)), np.zeros((2, 5)), PostprocessOptions())


@pytest.mark.parametrize(
    "wrong", [{"nms_type": "fast"}, {"score_threshold": -0.1}, {"nms_threshold": 1.5}, {"max_detections": -1}]
)
def test_invalid_options(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        PostprocessOptions(**wrong)


def test_a_compile_is_logged_and_a_cached_one_is_not(tmp_path):
    code = (
        "import logging; logging.basicConfig(level=20); from msdet.ops.postprocess import warm_up; warm_up(); warm_up()"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    logged = [
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True).stderr
        for _ in range(2)
    ]
    assert logged[0].count("compiled the post-processing") == 1
    assert logged[1] == ""


KEYS = {
    "eval_ignore_threshold": ("score_threshold", {"0.25": 0.25, "0.125": 0.125}),
    "nms_thresh": ("nms_threshold", {"0.25": 0.25, "0.75": 0.75}),
    "nms_type": ("nms_type", {"soft": "soft", "diou": "diou"}),
    "max_detections": ("max_detections", {"17": 17, "18": 18}),
    "multi_label": ("multi_label", {"0": False, "1": True}),
    "nms_top_k": ("pre_nms_top_k_per_class", {"13": 13, "14": 14}),
}


@pytest.mark.parametrize("config", ["yolov3", "yolov4", "efficientdet_d0", "refinedet_vgg16_320"])
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.usefixtures("at_root")
def test_options_come_from_the_configuration(config, key):
    name, values = KEYS[key]
    if key not in load_config(f"configs/{config}.yaml").to_dict():
        assert key == "nms_top_k"
        return
    for text, value in values.items():
        cfg = load_config(f"configs/{config}.yaml", [f"--{key}={text}"])
        assert getattr(get_recipe(cfg).postprocess_options(), name) == value


def test_only_the_best_candidates_of_a_class_take_part():
    """Two of seven separate boxes per class; of equal scores the first."""
    corner = np.arange(7, dtype=np.float32)[:, None] * 20
    boxes = np.concatenate([corner, corner, corner + 10, corner + 10], axis=1)
    scores = np.zeros((7, 2), np.float32)
    scores[[0, 1, 2, 3], 0] = [0.5, 0.9, 0.5, 0.5]
    scores[[4, 5, 6], 1] = 0.7
    found = postprocess(boxes, scores, PostprocessOptions(0.1, 0.5, pre_nms_top_k_per_class=2))
    assert found.boxes[:, 0].tolist() == [20, 80, 100, 0]
    assert len(postprocess(boxes, scores, PostprocessOptions(0.1, 0.5))) == 7
