"""The loss of YOLOv4 against a slow reference and its gradient against finite differences."""

from __future__ import annotations

import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from msdet.errors import UsageError
from msdet.models.yolov4.loss import YoloV4Criterion

ms.set_context(pynative_synchronize=True)

# Small enough that boxes in an image of 64 px use all three maps.
ANCHORS = [(4, 5), (7, 4), (8, 9), (12, 14), (20, 11), (18, 25), (30, 28), (26, 50), (55, 40)]
STRIDES = (32, 16, 8)
SCALES = (1.2, 1.1, 1.05)  # strides 8, 16, 32
CLASSES = 3


def cross_entropy(x, z):
    return z * np.logaddexp(0, -x) + (1 - z) * np.logaddexp(0, x)


def areas(a, b):
    """Intersection and union of two xyxy boxes."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height, union


def iou(a, b):
    intersection, union = areas(a, b)
    return intersection / union


def giou(a, b):
    intersection, union = areas(a, b)
    enclosing = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return intersection / union - (enclosing - union) / enclosing


def diou(a, b):
    dx, dy = (a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2
    width, height = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
    return iou(a, b) - (dx * dx + dy * dy) / (width * width + height * height)


def ciou(a, b):
    v = 4 / math.pi**2 * (math.atan((a[2] - a[0]) / (a[3] - a[1])) - math.atan((b[2] - b[0]) / (b[3] - b[1]))) ** 2
    return diou(a, b) - (v * v / (1 - iou(a, b) + v) if v else 0)


SIMILARITY = {"giou": giou, "diou": diou, "ciou": ciou}


def assign(boxes, labels, rows, columns):
    """(map, anchor, row, column) -> the box assigned to it, and the boxes of each map; rows, columns at stride 32."""
    slots, of_map = {}, {0: [], 1: [], 2: []}
    for box, label in zip(boxes, labels, strict=True):
        width, height = box[2] - box[0], box[3] - box[1]
        if label < 0 or width <= 0 or height <= 0:
            continue
        fits = [iou((0, 0, width, height), (0, 0, *anchor)) for anchor in ANCHORS]
        for number, fit in enumerate(fits):
            if number != np.argmax(fits) and fit <= 0.213:
                continue
            i = 2 - number // 3
            finer = 32 // STRIDES[i]
            column = min(int((box[0] + box[2]) / 2 // STRIDES[i]), columns * finer - 1)
            row = min(int((box[1] + box[3]) / 2 // STRIDES[i]), rows * finer - 1)
            slots[i, number % 3, row, column] = (box, label)
            of_map[i].append(box)
    return slots, of_map


def decode(raw, anchor, i, row, column):
    scale, stride = SCALES[2 - i], STRIDES[i]
    x = (column + scale / (1 + math.exp(-raw[0])) - (scale - 1) / 2) * stride
    y = (row + scale / (1 + math.exp(-raw[1])) - (scale - 1) / 2) * stride
    width, height = math.exp(raw[2]) * anchor[0], math.exp(raw[3]) * anchor[1]
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def slow_losses(raw_maps, boxes, labels, kind="ciou", threshold=0.7, smoothing=0.0, factors=(1, 1, 1)):
    """Reference: box, confidence, class, cell by cell, in float64."""
    total = np.zeros(3)
    _, _, rows, columns = raw_maps[0].shape
    for n in range(len(boxes)):
        slots, of_map = assign(boxes[n].astype(np.float64).tolist(), labels[n].tolist(), rows, columns)
        for i, raw_map in enumerate(raw_maps):
            maps = raw_map[n].astype(np.float64).reshape(3, 5 + CLASSES, *raw_map.shape[2:])
            for a, row, column in np.ndindex(3, *raw_map.shape[2:]):
                raw = maps[a, :, row, column]
                predicted = decode(raw, ANCHORS[3 * (2 - i) + a], i, row, column)
                if (i, a, row, column) not in slots:
                    if all(iou(predicted, other) < threshold for other in of_map[i]):
                        total[1] += factors[i] * cross_entropy(raw[4], 0)
                    continue
                box, label = slots[i, a, row, column]
                share = (box[2] - box[0]) * (box[3] - box[1]) / (rows * columns * 32 * 32)
                total[0] += factors[i] * 10 * (2 - share) * (1 - SIMILARITY[kind](predicted, box))
                total[1] += factors[i] * cross_entropy(raw[4], 1)
                for c in range(CLASSES):
                    target = 1 - smoothing if c == label else smoothing / (CLASSES - 1)
                    total[2] += factors[i] * cross_entropy(raw[5 + c], target)
    return total / len(boxes)


def random_case(seed, batch=2, count=6, height=64, width=96, dtype=np.float32):
    """Maps and boxes, from 3 px to the whole image, log-uniform, with some padding between them."""
    rng = np.random.default_rng(seed)
    raw_maps = tuple(
        rng.normal(0, 1, (batch, 3 * (5 + CLASSES), height // s, width // s)).astype(dtype) for s in STRIDES
    )
    size = np.exp(rng.uniform(np.log(3), np.log([width, height]), (batch, count, 2)))
    corner = rng.uniform(0, 1, (batch, count, 2)) * ([width, height] - size)
    boxes = np.concatenate([corner, corner + size], -1).astype(np.float32)
    labels = rng.integers(0, CLASSES, (batch, count)).astype(np.int32)
    padding = rng.random((batch, count)) < 0.2
    boxes[padding], labels[padding] = 0, -1
    return raw_maps, boxes, labels


def run(criterion, raw_maps, boxes, labels):
    losses = criterion(tuple(map(ms.Tensor, raw_maps)), ms.Tensor(boxes), ms.Tensor(labels), None)
    return np.array([float(loss) for loss in losses])


@pytest.mark.parametrize(("kind", "smoothing", "threshold"), [("ciou", 0.0, 0.7), ("giou", 0.1, 0.4), ("diou", 0, 0.3)])
def test_random_cases_against_the_reference(uncompiled, kind, smoothing, threshold):
    criterion = YoloV4Criterion(ANCHORS, CLASSES, threshold, smoothing, SCALES, kind)
    ignored = 0
    for seed, shape in enumerate([(2, 6, 64, 96), (1, 1, 32, 32), (2, 20, 64, 64)]):
        raw_maps, boxes, labels = random_case(seed, *shape)
        expected = slow_losses(raw_maps, boxes, labels, kind, threshold, smoothing)
        ignored += expected[1] != slow_losses(raw_maps, boxes, labels, kind, 2.0, smoothing)[1]
        np.testing.assert_allclose(run(criterion, raw_maps, boxes, labels), expected, rtol=1e-4)
    assert ignored or threshold == 0.7, "the ignore mask had no effect in any case"


CORNERS = {
    "no boxes": ([[0, 0, 0, 0]], [-1]),
    "padding before a box": ([[0, 0, 0, 0], [10, 10, 25, 22]], [-1, 2]),
    "identical boxes": ([[30, 30, 62, 63], [30, 30, 62, 63]], [1, 1]),
    "two boxes at the same places": ([[10, 10, 19, 18], [11, 9, 20, 17]], [0, 2]),
    "fits many anchors": ([[20, 20, 36, 36]], [0]),
    "centre on the border": ([[60, 60, 68, 68], [28, 28, 36, 36]], [0, 1]),
    "whole image": ([[0, 0, 64, 64]], [2]),
    "tiny": ([[33.1, 20.2, 33.3, 20.5]], [0]),
    "without area": ([[5, 5, 5, 20], [40, 40, 30, 30], [9, 9, 20, 20]], [0, 1, 2]),
}


@pytest.mark.parametrize("name", CORNERS)
def test_corner_cases_against_the_reference(uncompiled, name):
    boxes, labels = np.array([CORNERS[name][0]], np.float32), np.array([CORNERS[name][1]], np.int32)
    raw_maps, _, _ = random_case(3, 1, 1, 64, 64)
    losses = run(YoloV4Criterion(ANCHORS, CLASSES, scale_x_y=SCALES), raw_maps, boxes, labels)
    np.testing.assert_allclose(losses, slow_losses(raw_maps, boxes, labels), rtol=1e-4)
    assert np.isfinite(losses).all()


def test_coefficients(uncompiled):
    raw_maps, boxes, labels = random_case(1)
    plain = run(YoloV4Criterion(ANCHORS, CLASSES, scale_x_y=SCALES), raw_maps, boxes, labels)
    halves = YoloV4Criterion(ANCHORS, CLASSES, scale_x_y=SCALES, coefficients=(0.07, 0.5, 1.25))
    np.testing.assert_allclose(run(halves, raw_maps, boxes, labels), plain * [0.007, 0.5, 1.25], rtol=1e-5)
    equal = YoloV4Criterion(ANCHORS, CLASSES, scale_x_y=SCALES, map_coefficients=(2, 2, 2))
    np.testing.assert_allclose(run(equal, raw_maps, boxes, labels), 2 * plain, rtol=1e-5)
    by_map = YoloV4Criterion(ANCHORS, CLASSES, scale_x_y=SCALES, map_coefficients=(0.25, 1.5, 0.4))
    expected = slow_losses(raw_maps, boxes, labels, factors=(0.25, 1.5, 0.4))
    np.testing.assert_allclose(run(by_map, raw_maps, boxes, labels), expected, rtol=1e-4)


class Total(nn.Cell):
    """The sum of the losses, with the maps as separate inputs."""

    def __init__(self, criterion):
        super().__init__()
        self.criterion = criterion

    def construct(self, coarse, middle, fine, boxes, labels):
        box, confidence, classes = self.criterion((coarse, middle, fine), boxes, labels, None)
        return box + confidence + classes


class LossAndGradient(nn.Cell):
    def __init__(self, criterion):
        super().__init__()
        self.value_and_grad = ms.value_and_grad(Total(criterion), (0, 1, 2))

    def construct(self, coarse, middle, fine, boxes, labels):
        return self.value_and_grad(coarse, middle, fine, boxes, labels)


def test_gradient_equals_finite_differences_in_float64(graph_mode):
    """With GIoU, which has no constant part; that of CIoU is tested in test_iou_loss.py."""
    criterion = YoloV4Criterion(ANCHORS, CLASSES, 0.5, 0.1, SCALES, "giou")
    raw_maps, boxes, labels = random_case(5, 1, 5, 64, 64, np.float64)
    rest = (ms.Tensor(boxes), ms.Tensor(labels))
    value, gradients = LossAndGradient(criterion)(*map(ms.Tensor, raw_maps), *rest)
    assert value.dtype == ms.float64
    rng = np.random.default_rng(0)
    step = 1e-5
    for i, raw in enumerate(raw_maps):
        gradient = gradients[i].asnumpy()
        flat = np.argsort(-np.abs(gradient), axis=None)[:15].tolist() + rng.integers(0, raw.size, 5).tolist()
        for position in flat:
            values = []
            for sign in (1, -1):
                moved = [other.copy() for other in raw_maps]
                moved[i].flat[position] += sign * step
                values.append(slow_losses(moved, boxes, labels, "giou", 0.5, 0.1).sum())
            assert gradient.flat[position] == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4, abs=1e-6)


def test_one_compilation_serves_all_sizes(graph_mode):
    cell = LossAndGradient(YoloV4Criterion(ANCHORS, CLASSES, 0.5, 0.0, SCALES))
    cell.set_inputs(
        *(ms.Tensor(shape=[None, 3 * (5 + CLASSES), None, None], dtype=ms.float32) for _ in STRIDES),
        ms.Tensor(shape=[None, None, 4], dtype=ms.float32),
        ms.Tensor(shape=[None, None], dtype=ms.int32),
    )
    for seed, shape in enumerate([(2, 5, 64, 96), (1, 1, 96, 32)]):
        raw_maps, boxes, labels = random_case(seed, *shape)
        value, _ = cell(*map(ms.Tensor, (*raw_maps, boxes, labels)))
        np.testing.assert_allclose(
            value.asnumpy(), slow_losses(raw_maps, boxes, labels, threshold=0.5).sum(), rtol=1e-4
        )
    assert len(cell.compile_cache) == 1


def test_extreme_maps_give_finite_losses_and_gradients(uncompiled):
    raw_maps, boxes, labels = random_case(0, 1, 5, 32, 32)
    for kind in SIMILARITY:
        total = Total(YoloV4Criterion(ANCHORS, CLASSES, scale_x_y=SCALES, iou_loss=kind))
        arguments = [ms.Tensor(x) for x in (*(raw * 300 for raw in raw_maps), boxes, labels)]
        value, gradients = ms.value_and_grad(total, (0, 1, 2))(*arguments)
        assert np.isfinite(value.asnumpy())
        assert all(np.isfinite(gradient.asnumpy()).all() for gradient in gradients)


@pytest.mark.parametrize(
    ("keys", "fragment"),
    [
        ({"iou_loss": "iou"}, "iou_loss"),
        ({"coefficients": (1, 1)}, "coefficients"),
        ({"map_coefficients": (1, -1, 1)}, "map_coefficients"),
        ({"scale_x_y": (1, 1)}, "scale_x_y"),
    ],
)
def test_wrong_arguments_are_usage_errors(keys, fragment):
    with pytest.raises(UsageError, match=fragment):
        YoloV4Criterion(ANCHORS, CLASSES, **keys)
