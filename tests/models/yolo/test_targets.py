"""Assignment of boxes to anchors and cells in YOLO against slow references."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest

from msdet.models.yolo.targets import (
    ANCHOR_FIRST_CELLS,
    ANCHOR_INDICES,
    ANCHOR_STRIDES,
    anchor_dimensions,
    anchor_iou,
    cell_corners,
    choose_anchors,
    is_object,
)

ANCHORS = np.array([(4, 5), (7, 4), (8, 9), (12, 14), (20, 11), (18, 25), (30, 28), (26, 50), (55, 40)], np.float32)
STRIDES = (32, 16, 8)


def shape_iou(size, anchor):
    inter = min(size[0], anchor[0]) * min(size[1], anchor[1])
    return inter / (size[0] * size[1] + anchor[0] * anchor[1] - inter)


def random_boxes(rng, batch, count, side=64):
    size = np.exp(rng.uniform(np.log(3), np.log(side), (batch, count, 2)))
    corner = rng.uniform(0, 1, (batch, count, 2)) * (side - size)
    return np.concatenate([corner, corner + size], -1).astype(np.float32)


def test_constants_of_the_anchors():
    np.testing.assert_array_equal(ANCHOR_STRIDES, [8, 8, 8, 16, 16, 16, 32, 32, 32])
    np.testing.assert_array_equal(ANCHOR_INDICES, [0, 1, 2] * 3)
    # The map of stride 32 comes first, then that of 16 with four times the cells.
    np.testing.assert_array_equal(ANCHOR_FIRST_CELLS, [5, 5, 5, 1, 1, 1, 0, 0, 0])


def test_is_object():
    boxes = np.array([[[0, 0, 5, 5], [0, 0, 5, 5], [3, 3, 3, 9], [4, 4, 2, 8], [4, 4, 4, 4]]], np.float32)
    labels = np.array([[0, -1, 1, 1, 1]], np.int32)
    got = is_object(ms.Tensor(boxes), ms.Tensor(labels)).asnumpy()
    np.testing.assert_array_equal(got, [[True, False, False, False, False]])


@pytest.mark.parametrize("threshold", [None, 0.213, 0.6])
def test_chosen_anchors(threshold):
    boxes = random_boxes(np.random.default_rng(0), 3, 20)
    valid = np.random.default_rng(1).random((3, 20)) < 0.8
    sides = map(ms.Tensor, anchor_dimensions(np.float32(ANCHORS)))
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


def test_cells_at_the_border_and_beyond():
    # Centres: inside, on the border of two cells, on the right and lower border, outside at both sides.
    centres = np.array([[5, 60], [32, 31.9], [96, 64], [130, 70], [-3, -1]], np.float32)
    boxes = np.concatenate([centres - 2, centres + 2], -1)[None]
    stride = np.full((1, 5, 1), 16, np.float32)
    got = cell_corners(*map(ms.Tensor, (boxes, stride, stride * 0 + 6, stride * 0 + 4))).asnumpy()
    np.testing.assert_array_equal(got[0, :, 0], [[0, 3], [2, 1], [5, 3], [5, 3], [0, 0]])
