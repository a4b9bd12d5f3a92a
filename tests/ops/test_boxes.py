"""Box operations against loops over single boxes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from msdet.ops import boxes as ops

COORDINATE = st.floats(-50, 150, width=32)


def box_arrays(low=0, high=6):
    return st.integers(low, high).flatmap(lambda n: arrays(np.float64, (n, 4), elements=COORDINATE))


def slow_iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    union = sum(max(c[2] - c[0], 0) * max(c[3] - c[1], 0) for c in (a, b)) - shared
    return shared / union if union > 0 else 0.0


@given(box_arrays())
def test_conversions_are_inverse(boxes):
    np.testing.assert_allclose(ops.xywh_to_xyxy(ops.xyxy_to_xywh(boxes)), boxes, atol=1e-9)
    np.testing.assert_allclose(ops.cxcywh_to_xyxy(ops.xyxy_to_cxcywh(boxes)), boxes, atol=1e-9)


def test_conversions_of_one_box():
    box = np.array([10.0, 20.0, 15.0, 40.0])
    np.testing.assert_array_equal(ops.xyxy_to_xywh(box), [10, 20, 5, 20])
    np.testing.assert_array_equal(ops.xyxy_to_cxcywh(box), [12.5, 30, 5, 20])
    np.testing.assert_array_equal(ops.xywh_to_xyxy(np.array([10, 20, 5, 20])), box)


@given(box_arrays(), box_arrays())
def test_iou_matches_a_loop(first, second):
    got = ops.iou_matrix(first, second)
    assert got.shape == (len(first), len(second))
    want = [[slow_iou(a, b) for b in second] for a in first]
    np.testing.assert_allclose(got, np.array(want).reshape(got.shape), atol=1e-9)


@pytest.mark.parametrize(
    ("other", "iou"),
    [
        ([0, 0, 10, 10], 1.0),
        ([5, 0, 15, 10], 1 / 3),
        ([10, 0, 20, 10], 0.0),
        ([30, 30, 40, 40], 0.0),
        ([5, 5, 5, 5], 0.0),
    ],
)
def test_iou_of_known_pairs(other, iou):
    box = np.array([[0, 0, 10, 10]], np.float32)
    assert ops.iou_matrix(box, np.array([other], np.float32))[0, 0] == pytest.approx(iou)


def test_boxes_without_area_have_iou_zero():
    point = np.array([[3.0, 3.0, 3.0, 3.0]])
    assert ops.iou_matrix(point, point)[0, 0] == 0
    assert ops.box_area(np.array([[5.0, 0.0, 0.0, 10.0]]))[0] == 0


@given(box_arrays())
def test_clipped_boxes_lie_inside(boxes):
    clipped = ops.clip_boxes(boxes, 100, 60)
    assert (clipped >= 0).all()
    assert (clipped[:, 0::2] <= 100).all()
    assert (clipped[:, 1::2] <= 60).all()
    inside = (boxes >= 0).all(1) & (boxes[:, 0::2] <= 100).all(1) & (boxes[:, 1::2] <= 60).all(1)
    np.testing.assert_array_equal(clipped[inside], boxes[inside])


def test_clipping_keeps_the_dtype():
    assert ops.clip_boxes(np.zeros((0, 4), np.float32), 10, 10).dtype == np.float32
