"""The parts of the YOLO loss shared by all versions: cross-entropy, overlap mask, winners and classes."""

from __future__ import annotations

import mindspore as ms
import numpy as np

from msdet.models.yolo.loss import SigmoidCrossEntropy, YoloCriterion, overlaps_object

ANCHORS = np.array([(4, 5), (7, 4), (8, 9), (12, 14), (20, 11), (18, 25), (30, 28), (26, 50), (55, 40)], np.float32)


STRIDES = (32, 16, 8)


def shape_iou(size, anchor):
    inter = min(size[0], anchor[0]) * min(size[1], anchor[1])
    return inter / (size[0] * size[1] + anchor[0] * anchor[1] - inter)


def random_boxes(rng, batch, count, side=64):
    size = np.exp(rng.uniform(np.log(3), np.log(side), (batch, count, 2)))
    corner = rng.uniform(0, 1, (batch, count, 2)) * (side - size)
    return np.concatenate([corner, corner + size], -1).astype(np.float32)


def cross_entropy(x, z):
    return z * np.logaddexp(0, -x) + (1 - z) * np.logaddexp(0, x)


class Criterion(YoloCriterion):
    """The shared part, with the sums of the weights and of the raw maps at the slots instead of box losses."""

    loss_names = ("weight", "raw", *YoloCriterion.loss_names)

    def box_losses(self, raw_box, boxes, anchor, corner, weight):
        return weight.sum(), (weight.expand_dims(3) * raw_box).sum()


def test_several_anchors_per_box_against_the_reference():
    """Winners, gathered values, confidence and class at all places of all anchors, without an ignore mask."""
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


def iou(a, b):
    """IoU of two xyxy boxes."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    inter = width * height
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def test_cross_entropy_is_exact_far_from_zero():
    x = np.array([-80.0, -20.0, 0.0, 20.0, 80.0], np.float32)
    for z in (0.0, 1.0):
        got = SigmoidCrossEntropy()(ms.Tensor(x), ms.Tensor(np.full_like(x, z))).asnumpy()
        np.testing.assert_allclose(got, cross_entropy(x.astype(np.float64), z), rtol=1e-6, atol=1e-8)


def test_the_overlap_mask_against_the_iou():
    """Predictions in two groups, compared with different boxes; the groups are repeated three times."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 20, (2, 40, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 20, (2, 40, 2))], -1).astype(np.float32)
    truth, predicted = boxes[:, :10], boxes[:, 10:]
    considered = (rng.random((2, 10, 2)) < 0.7) & np.array([True, False])[:, None, None]
    group = rng.integers(0, 2, 10).astype(np.int32)
    corners = tuple(ms.Tensor(predicted[:, None, :, i].copy()) for i in range(4))
    for threshold in (0.0, 0.3, 0.5, 0.7):
        got = overlaps_object(corners, *map(ms.Tensor, (truth, considered, group)), threshold).asnumpy()
        for n, k in np.ndindex(2, 30):
            ious = [iou(predicted[n, k], truth[n, m]) for m in range(10) if considered[n, m, group[k % 10]]]
            assert got[n, k] == (max(ious, default=-1) >= threshold)
