"""Matching of the YOLOs against loops over boxes and anchors, with one and with several anchors a box."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest

from msdet.models.yolo.loss import YoloCriterion
from msdet.models.yolo.targets import (
    ANCHOR_FIRST_CELLS,
    ANCHOR_NUMBERS,
    ANCHOR_STRIDES,
    anchor_iou,
    anchor_sides,
    cell_corners,
    choose_anchors,
    is_object,
)

ANCHORS = np.array([(4, 5), (7, 4), (8, 9), (12, 14), (20, 11), (18, 25), (30, 28), (26, 50), (55, 40)], np.float32)
STRIDES = (32, 16, 8)


def shape_iou(size, anchor):
    inter = min(size[0], anchor[0]) * min(size[1], anchor[1])
    return inter / (size[0] * size[1] + anchor[0] * anchor[1] - inter)


def cross_entropy(x, z):
    return z * np.logaddexp(0, -x) + (1 - z) * np.logaddexp(0, x)


def random_boxes(rng, batch, count, side=64):
    size = np.exp(rng.uniform(np.log(3), np.log(side), (batch, count, 2)))
    corner = rng.uniform(0, 1, (batch, count, 2)) * (side - size)
    return np.concatenate([corner, corner + size], -1).astype(np.float32)


def test_constants_of_the_anchors():
    np.testing.assert_array_equal(ANCHOR_STRIDES, [8, 8, 8, 16, 16, 16, 32, 32, 32])
    np.testing.assert_array_equal(ANCHOR_NUMBERS, [0, 1, 2] * 3)
    # The map of stride 32 comes first, then that of 16 with four times the cells.
    np.testing.assert_array_equal(ANCHOR_FIRST_CELLS, [5, 5, 5, 1, 1, 1, 0, 0, 0])


def test_is_object():
    boxes = np.array([[[0, 0, 5, 5], [0, 0, 5, 5], [3, 3, 3, 9], [4, 4, 2, 8], [4, 4, 4, 4]]], np.float32)
    labels = np.array([[0, -1, 1, 1, 1]], np.int32)
    got = is_object(ms.Tensor(boxes), ms.Tensor(labels)).asnumpy()
    np.testing.assert_array_equal(got, [[True, False, False, False, False]])


@pytest.mark.parametrize("threshold", [None, 0.213, 0.6])
def test_anchors_of_a_box(threshold):
    boxes = random_boxes(np.random.default_rng(0), 3, 20)
    valid = np.random.default_rng(1).random((3, 20)) < 0.8
    sides = map(ms.Tensor, anchor_sides(np.float32(ANCHORS)))
    iou = anchor_iou(ms.Tensor(boxes[..., 2:] - boxes[..., :2]), tuple(sides))
    anchor, positive = (x.asnumpy() for x in choose_anchors(iou, ms.Tensor(valid), threshold))
    for n, m in np.ndindex(3, 20):
        size = boxes[n, m, 2:] - boxes[n, m, :2]
        ious = [shape_iou(size, a) for a in ANCHORS]
        np.testing.assert_allclose(iou.asnumpy()[n, m], ious, rtol=1e-5)
        expected = {int(np.argmax(ious))}
        if threshold is not None:
            expected |= {a for a in range(9) if ious[a] > threshold}
        assert set(anchor[n, m][positive[n, m]].tolist()) == (expected if valid[n, m] else set())


def test_cells_of_the_border_and_beyond():
    # Centres: inside, on the border of two cells, on the right and lower border, outside on either side.
    centres = np.array([[5, 60], [32, 31.9], [96, 64], [130, 70], [-3, -1]], np.float32)
    boxes = np.concatenate([centres - 2, centres + 2], -1)[None]
    stride = np.full((1, 5, 1), 16, np.float32)
    got = cell_corners(*map(ms.Tensor, (boxes, stride, stride * 0 + 6, stride * 0 + 4))).asnumpy()
    np.testing.assert_array_equal(got[0, :, 0], [[0, 3], [2, 1], [5, 3], [5, 3], [0, 0]])


class Criterion(YoloCriterion):
    """The shared part, with the sum of the weights, and of raw maps at the slots, in place of box losses."""

    loss_names = ("weight", "raw", *YoloCriterion.loss_names)

    def box_losses(self, raw_box, boxes, anchor, corner, weight):
        return weight.sum(), (weight.expand_dims(3) * raw_box).sum()


def test_several_anchors_a_box_equal_the_loops():
    """All places of all anchors, without an ignore mask: which is the winner, what is gathered, confidence, class."""
    ms.set_context(mode=ms.GRAPH_MODE)
    num_classes, side = 2, 64
    rng = np.random.default_rng(0)
    raw_maps = [rng.normal(0, 1, (2, 21, side // s, side // s)).astype(np.float32) for s in STRIDES]
    boxes = random_boxes(rng, 2, 8)
    labels = rng.integers(-1, num_classes, (2, 8)).astype(np.int32)
    criterion = Criterion(ANCHORS, num_classes, ignore_threshold=1.0, extra_anchor_iou=0.213)
    got = criterion(tuple(map(ms.Tensor, raw_maps)), ms.Tensor(boxes), ms.Tensor(labels))

    expected = np.zeros(4)
    for n in range(2):
        owner = {}
        for m in range(8):
            size = boxes[n, m, 2:] - boxes[n, m, :2]
            ious = [shape_iou(size, anchor) for anchor in ANCHORS]
            for a in range(9):
                if labels[n, m] >= 0 and (ious[a] > 0.213 or a == np.argmax(ious)):
                    i = 2 - a // 3
                    column, row = ((boxes[n, m, :2] + boxes[n, m, 2:]) / 2 // STRIDES[i]).astype(int)
                    owner[i, a % 3, row, column] = (2 - size.prod() / side**2, labels[n, m])
        for i, raw in enumerate(raw_maps):
            maps = raw[n].reshape(3, 7, *raw.shape[2:]).astype(np.float64)
            for a, row, column in np.ndindex(3, *raw.shape[2:]):
                values = maps[a, :, row, column]
                positive = (i, a, row, column) in owner
                expected[2] += cross_entropy(values[4], positive)
                if positive:
                    weight, label = owner[i, a, row, column]
                    expected[:2] += weight, weight * values[:4].sum()
                    expected[3] += sum(cross_entropy(values[5 + c], c == label) for c in range(num_classes))
    np.testing.assert_allclose([float(loss) for loss in got], expected / 2, rtol=1e-5)
