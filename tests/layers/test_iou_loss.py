"""IoU, GIoU, DIoU and CIoU of pairs against slow reference versions, their gradients against finite differences."""

from __future__ import annotations

import math

import mindspore as ms
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msdet.layers.iou_loss import IOU_LOSSES, paired_iou


@pytest.fixture(autouse=True, scope="module")
def _pynative():
    """Graph mode does not accept lambdas defined inside a call."""
    ms.set_context(mode=ms.PYNATIVE_MODE, pynative_synchronize=True)
    yield
    ms.set_context(mode=ms.GRAPH_MODE, pynative_synchronize=False)


KINDS = ("iou", *IOU_LOSSES)
PAIRS = {
    "identical": ([10, 10, 30, 50], [10, 10, 30, 50]),
    "overlapping": ([10, 10, 30, 50], [20, 15, 60, 40]),
    "nested": ([10, 10, 50, 50], [20, 25, 30, 40]),
    "disjoint in x": ([10, 10, 20, 30], [40, 12, 60, 33]),
    "disjoint in both axes": ([10, 10, 20, 20], [60, 70, 90, 95]),
    "touching": ([10, 10, 20, 20], [20, 10, 30, 20]),
}


def slow(kind, a, b, alpha=None):
    """The definition for one pair of boxes with area, in float64; `alpha` replaces the one of CIoU."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    iou = width * height / union
    enclosing_w, enclosing_h = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
    if kind == "giou":
        return iou - (enclosing_w * enclosing_h - union) / (enclosing_w * enclosing_h)
    if kind == "iou":
        return iou
    dx, dy = (a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2
    diou = iou - (dx**2 + dy**2) / (enclosing_w**2 + enclosing_h**2)
    if kind == "diou":
        return diou
    v = 4 / math.pi**2 * (math.atan((a[2] - a[0]) / (a[3] - a[1])) - math.atan((b[2] - b[0]) / (b[3] - b[1]))) ** 2
    return diou - (alpha_of(iou, v) if alpha is None else alpha) * v


def alpha_of(iou, v):
    return v / (1 - iou + v) if v else 0.0


def alpha_at(a, b):
    """The weight alpha of CIoU for a pair."""
    v = 4 / math.pi**2 * (math.atan((a[2] - a[0]) / (a[3] - a[1])) - math.atan((b[2] - b[0]) / (b[3] - b[1]))) ** 2
    return alpha_of(slow("iou", a, b), v)


def run(kind, first, second, dtype=np.float64):
    return paired_iou(ms.Tensor(np.asarray(first, dtype)), ms.Tensor(np.asarray(second, dtype)), kind).asnumpy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PAIRS)
def test_known_pairs(kind, name):
    a, b = PAIRS[name]
    assert run(kind, [a], [b])[0] == pytest.approx(slow(kind, a, b), abs=1e-6)
    assert run(kind, [b], [a])[0] == pytest.approx(slow(kind, b, a), abs=1e-6)


def test_boxes_disjoint_in_both_axes_have_no_intersection():
    """The product of two negative sides is no area: GIoU is -0.844 here."""
    a, b = [0.1, 0.1, 0.2, 0.2], [0.6, 0.6, 0.9, 0.9]
    assert run("iou", [a], [b])[0] == 0
    assert run("giou", [a], [b])[0] == pytest.approx(-0.84375, abs=1e-5)


boxes_in_pixels = st.tuples(*[st.floats(0, 500)] * 2, *[st.floats(0.5, 300)] * 2).map(
    lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(boxes_in_pixels, boxes_in_pixels), min_size=1, max_size=5))
def test_any_boxes(pairs):
    first, second = zip(*pairs, strict=True)
    for kind in KINDS:
        expected = [slow(kind, a, b) for a, b in pairs]
        np.testing.assert_allclose(run(kind, first, second, np.float32), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", IOU_LOSSES)
@pytest.mark.parametrize("name", [name for name in PAIRS if name not in ("identical", "touching")])
def test_gradient_equals_finite_differences(kind, name):
    """Where the function is differentiable; alpha of CIoU is a constant."""
    a, b = PAIRS[name]
    gradient = ms.grad(lambda x, y: paired_iou(x, y, kind).sum())(
        ms.Tensor(np.array([a], np.float64)), ms.Tensor(np.array([b], np.float64))
    ).asnumpy()[0]
    alpha, step = alpha_at(a, b), 1e-5
    for i in range(4):
        values = []
        for sign in (1, -1):
            moved = list(map(float, a))
            moved[i] += sign * step
            values.append(slow(kind, moved, b, alpha))
        assert gradient[i] == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5, abs=1e-8)
    assert np.abs(gradient).max() > 1e-4, "disjoint boxes have a gradient too"


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_without_area_stay_finite(kind):
    boxes = np.array(
        [[0, 0, 0, 0], [5, 5, 5, 5], [5, 5, 5, 20], [8, 9, 3, 2], [0, 0, 1e-20, 1e-20], [-1e11, -1e11, 1e11, 1e11]],
        np.float32,
    )
    first, second = (ms.Tensor(np.ascontiguousarray(x)) for x in (boxes.repeat(6, 0), np.tile(boxes, (6, 1))))
    value, gradients = ms.value_and_grad(lambda x, y: paired_iou(x, y, kind).sum(), (0, 1))(first, second)
    assert np.isfinite(value.asnumpy())
    assert all(np.isfinite(gradient.asnumpy()).all() for gradient in gradients)
    assert run(kind, boxes[:1], boxes[:1])[0] == 0
