"""The loss of YOLOv3 against a slow reference and its gradient against finite differences."""

from __future__ import annotations

import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from msdet.errors import UsageError
from msdet.models.yolov3_quant.loss import YoloV3Criterion

# With few cores, the asynchronous queue of PyNative costs ten times as much as the operators. Set before the first one.
ms.set_context(pynative_synchronize=True)

# Small enough that boxes in an image of 64 px use all three maps.
ANCHORS = [(4, 5), (7, 4), (8, 9), (12, 14), (20, 11), (18, 25), (30, 28), (26, 50), (55, 40)]
STRIDES = (32, 16, 8)


def cross_entropy(x, z):
    """-z log p - (1 - z) log(1 - p) for p = sigmoid(x)."""
    return z * np.logaddexp(0, -x) + (1 - z) * np.logaddexp(0, x)


def iou(a, b):
    """IoU of two xyxy boxes."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    inter = width * height
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def best_anchor(width, height):
    shapes = [iou((0, 0, width, height), (0, 0, *anchor)) if min(width, height) > 0 else 0 for anchor in ANCHORS]
    return int(np.argmax(shapes))


def assign(boxes, labels, image_size):
    """(map, anchor, row, column) -> the box assigned to it, and the boxes of each map."""
    slots, of_map = {}, {0: [], 1: [], 2: []}
    for box, label in zip(boxes, labels, strict=True):
        width, height = box[2] - box[0], box[3] - box[1]
        if label < 0 or width <= 0 or height <= 0:
            continue
        anchor = best_anchor(width, height)
        index = 2 - anchor // 3
        stride = STRIDES[index]
        column = min(int((box[0] + box[2]) / 2 // stride), image_size[1] // stride - 1)
        row = min(int((box[1] + box[3]) / 2 // stride), image_size[0] // stride - 1)
        slots[index, anchor % 3, row, column] = (box, label)
        of_map[index].append(box)
    return slots, of_map


def decode(raw, anchor, stride, row, column):
    centre_x = (column + 1 / (1 + math.exp(-raw[0]))) * stride
    centre_y = (row + 1 / (1 + math.exp(-raw[1]))) * stride
    half_width, half_height = math.exp(raw[2]) * anchor[0] / 2, math.exp(raw[3]) * anchor[1] / 2
    return centre_x - half_width, centre_y - half_height, centre_x + half_width, centre_y + half_height


def slow_losses(raw_maps, boxes, labels, image_size, num_classes, ignore_threshold=0.7, smoothing=0.0):
    """Reference: xy, wh, confidence, class, cell by cell, in float64."""
    xy = wh = confidence = classes = 0.0
    boxes, labels = boxes.astype(np.float64).tolist(), labels.tolist()
    for n in range(len(boxes)):
        slots, of_map = assign(boxes[n], labels[n], image_size)
        for i, raw_map in enumerate(raw_maps):
            _, _, rows, columns = raw_map.shape
            maps = raw_map[n].astype(np.float64).reshape(3, 5 + num_classes, rows, columns)
            for a, row, column in np.ndindex(3, rows, columns):
                raw = maps[a, :, row, column]
                anchor = ANCHORS[3 * (2 - i) + a]
                if (i, a, row, column) not in slots:
                    box = decode(raw, anchor, STRIDES[i], row, column)
                    if all(iou(box, other) < ignore_threshold for other in of_map[i]):
                        confidence += cross_entropy(raw[4], 0)
                    continue
                box, label = slots[i, a, row, column]
                width, height = box[2] - box[0], box[3] - box[1]
                weight = 2 - width * height / (image_size[0] * image_size[1])
                x = (box[0] + box[2]) / 2 / STRIDES[i] - column
                y = (box[1] + box[3]) / 2 / STRIDES[i] - row
                xy += weight * (cross_entropy(raw[0], x) + cross_entropy(raw[1], y))
                wh += weight * 0.5 * (math.log(width / anchor[0]) - raw[2]) ** 2
                wh += weight * 0.5 * (math.log(height / anchor[1]) - raw[3]) ** 2
                confidence += cross_entropy(raw[4], 1)
                for c in range(num_classes):
                    target = 1 - smoothing if c == label else smoothing / max(num_classes - 1, 1)
                    classes += cross_entropy(raw[5 + c], target)
    return np.array([xy, wh, confidence, classes]) / len(boxes)


def random_maps(rng, batch, height, width, num_classes, dtype=np.float32, spread=1.0):
    shapes = [(batch, 3 * (5 + num_classes), height // s, width // s) for s in STRIDES]
    return tuple(rng.normal(0, spread, shape).astype(dtype) for shape in shapes)


def random_boxes(rng, batch, count, height, width, num_classes):
    """Boxes inside the image, from 3 px to the whole image, log-uniform, with some padding between them."""
    size = np.exp(rng.uniform(np.log(3), np.log([width, height]), (batch, count, 2)))
    corner = rng.uniform(0, 1, (batch, count, 2)) * ([width, height] - size)
    boxes = np.concatenate([corner, corner + size], -1).astype(np.float32)
    labels = rng.integers(0, num_classes, (batch, count)).astype(np.int32)
    padding = rng.random((batch, count)) < 0.2
    boxes[padding], labels[padding] = 0, -1
    return boxes, labels


def make_predictions_hit(raw_maps, boxes, labels, image_size, num_classes, shift):
    """Makes predictions next to winners match the ground truth, so that the ignore mask has an effect."""
    for n in range(len(boxes)):
        slots, _ = assign(boxes[n].tolist(), labels[n].tolist(), image_size)
        for (i, _, row, column), (box, _) in slots.items():
            _, _, rows, columns = raw_maps[i].shape
            maps = raw_maps[i][n].reshape(3, 5 + num_classes, rows, columns)
            for number in range(3):
                anchor = ANCHORS[3 * (2 - i) + number]
                if (i, number, row, column) in slots:
                    continue
                x = (box[0] + box[2]) / 2 / STRIDES[i] - column + shift
                y = (box[1] + box[3]) / 2 / STRIDES[i] - row + shift
                x, y = np.clip([x, y], 0.01, 0.99)
                maps[number, :2, row, column] = np.log(x / (1 - x)), np.log(y / (1 - y))
                maps[number, 2, row, column] = np.log((box[2] - box[0]) / anchor[0])
                maps[number, 3, row, column] = np.log((box[3] - box[1]) / anchor[1])


def run(criterion, raw_maps, boxes, labels, image_size):
    tensors = tuple(ms.Tensor(raw) for raw in raw_maps)
    size = ms.Tensor(image_size, ms.float32)
    return np.array([float(loss) for loss in criterion(tensors, ms.Tensor(boxes), ms.Tensor(labels), size)])


@pytest.mark.parametrize(
    ("num_classes", "smoothing", "threshold"), [(1, 0.0, 0.7), (1, 0.1, 0.5), (4, 0.0, 0.5), (4, 0.1, 0.7)]
)
def test_random_cases_against_the_reference(uncompiled, num_classes, smoothing, threshold):
    criterion = YoloV3Criterion(ANCHORS, num_classes, threshold, smoothing)
    ignored = 0
    for seed, (batch, count, height, width) in enumerate([(2, 6, 64, 96), (1, 1, 32, 32), (2, 30, 64, 64)]):
        rng = np.random.default_rng(seed)
        raw_maps = random_maps(rng, batch, height, width, num_classes)
        boxes, labels = random_boxes(rng, batch, count, height, width, num_classes)
        make_predictions_hit(raw_maps, boxes, labels, (height, width), num_classes, rng.normal(0, 0.1))
        expected = slow_losses(raw_maps, boxes, labels, (height, width), num_classes, threshold, smoothing)
        everything = slow_losses(raw_maps, boxes, labels, (height, width), num_classes, 2.0, smoothing)
        ignored += expected[2] != everything[2]
        np.testing.assert_allclose(run(criterion, raw_maps, boxes, labels, (height, width)), expected, rtol=1e-5)
    assert ignored, "the ignore mask had no effect in any case"


def one_box_cases():
    """name -> boxes (M, 4), labels (M,) on an image of 64 x 64."""
    return {
        "no boxes": ([[0, 0, 0, 0]], [-1]),
        "padding before a box": ([[0, 0, 0, 0], [10, 10, 25, 22]], [-1, 2]),
        "two boxes in one cell and anchor": ([[10, 10, 19, 18], [11, 9, 20, 17]], [0, 2]),
        "three boxes in one cell, the second with another anchor": (
            [[10, 10, 19, 18], [2, 2, 30, 30], [11, 9, 20, 17]],
            [0, 1, 2],
        ),
        "identical boxes": ([[30, 30, 62, 63], [30, 30, 62, 63]], [1, 1]),
        "centre on the right and lower border": ([[60, 60, 68, 68], [50, 56, 78, 72]], [0, 1]),
        "centre on the border of two cells": ([[28, 28, 36, 36]], [0]),
        "whole image": ([[0, 0, 64, 64]], [2]),
        "tiny": ([[33.1, 20.2, 33.3, 20.5]], [0]),
        "without area": ([[5, 5, 5, 20], [40, 40, 30, 30], [9, 9, 20, 20]], [0, 1, 2]),
    }


@pytest.mark.parametrize("name", one_box_cases())
def test_corner_cases_against_the_reference(uncompiled, name):
    boxes, labels = one_box_cases()[name]
    boxes, labels = np.array([boxes], np.float32), np.array([labels], np.int32)
    raw_maps = random_maps(np.random.default_rng(3), 1, 64, 64, 3)
    expected = slow_losses(raw_maps, boxes, labels, (64, 64), 3)
    losses = run(YoloV3Criterion(ANCHORS, 3), raw_maps, boxes, labels, (64, 64))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert np.isfinite(losses).all()


def test_the_later_of_two_boxes_at_one_place_wins(uncompiled):
    criterion = YoloV3Criterion(ANCHORS, 3)
    raw_maps = random_maps(np.random.default_rng(0), 1, 64, 64, 3)
    pair = np.array([[[10, 10, 19, 18], [11, 9, 20, 17]]], np.float32)
    both = run(criterion, raw_maps, pair, np.array([[0, 2]], np.int32), (64, 64))
    later = run(criterion, raw_maps, pair, np.array([[-1, 2]], np.int32), (64, 64))
    earlier = run(criterion, raw_maps, pair, np.array([[0, -1]], np.int32), (64, 64))
    np.testing.assert_allclose(both, later, rtol=1e-6)
    assert not np.allclose(both, earlier, rtol=1e-3)


class Total(nn.Cell):
    """The sum of the losses, with the maps as separate inputs."""

    def __init__(self, criterion):
        super().__init__()
        self.criterion = criterion

    def construct(self, coarse, middle, fine, boxes, labels, image_size):
        xy, wh, confidence, classes = self.criterion((coarse, middle, fine), boxes, labels, image_size)
        return xy + wh + confidence + classes


class LossAndGradient(nn.Cell):
    def __init__(self, criterion):
        super().__init__()
        self.value_and_grad = ms.value_and_grad(Total(criterion), (0, 1, 2))

    def construct(self, coarse, middle, fine, boxes, labels, image_size):
        return self.value_and_grad(coarse, middle, fine, boxes, labels, image_size)


def case_in_float64(seed):
    rng = np.random.default_rng(seed)
    raw_maps = random_maps(rng, 2, 64, 64, 3, np.float64)
    boxes, labels = random_boxes(rng, 2, 5, 64, 64, 3)
    make_predictions_hit(raw_maps, boxes, labels, (64, 64), 3, 0.1)
    return raw_maps, boxes, labels


def test_gradient_equals_finite_differences_in_float64(graph_mode):
    criterion = YoloV3Criterion(ANCHORS, 3, 0.5, 0.1)
    raw_maps, boxes, labels = case_in_float64(5)
    raw_maps[0][0, 4] = 0.0  # objectness of exactly 0: |x| and max(x, 0) have a kink there, the loss has none
    rest = (ms.Tensor(boxes), ms.Tensor(labels), ms.Tensor([64, 64], ms.float32))
    value, gradients = LossAndGradient(criterion)(*(ms.Tensor(raw) for raw in raw_maps), *rest)
    assert value.dtype == ms.float64
    np.testing.assert_allclose(value.asnumpy(), slow_losses(raw_maps, boxes, labels, (64, 64), 3, 0.5, 0.1).sum())

    total = Total(criterion)
    rng = np.random.default_rng(0)
    step = 1e-5
    for i, raw in enumerate(raw_maps):
        gradient = gradients[i].asnumpy()
        # The largest gradients are at the ground truths; the rest mostly at objectness.
        flat = np.argsort(-np.abs(gradient), axis=None)[:20].tolist() + rng.integers(0, raw.size, 20).tolist()
        flat += np.flatnonzero(raw == 0)[:2].tolist()
        for position in flat:
            values = []
            for sign in (1, -1):
                moved = [other.copy() for other in raw_maps]
                moved[i].flat[position] += sign * step
                values.append(float(total(*(ms.Tensor(m) for m in moved), *rest).asnumpy()))
            numeric = (values[0] - values[1]) / (2 * step)
            assert gradient.flat[position] == pytest.approx(numeric, rel=1e-6, abs=1e-7)


def test_dynamic_shapes_equal_static_ones_and_compile_once(graph_mode):
    criterion = YoloV3Criterion(ANCHORS, 3, 0.5)
    dynamic = LossAndGradient(criterion)
    map_shape, box_shape = [None, 24, None, None], [None, None, 4]
    dynamic.set_inputs(
        *(ms.Tensor(shape=map_shape, dtype=ms.float32) for _ in STRIDES),
        ms.Tensor(shape=box_shape, dtype=ms.float32),
        ms.Tensor(shape=box_shape[:2], dtype=ms.int32),
        ms.Tensor(shape=[2], dtype=ms.float32),
    )
    for seed, (batch, height, width, count) in enumerate([(2, 64, 96, 5), (1, 96, 32, 1), (3, 32, 64, 12)]):
        rng = np.random.default_rng(seed)
        raw_maps = random_maps(rng, batch, height, width, 3)
        boxes, labels = random_boxes(rng, batch, count, height, width, 3)
        arguments = [ms.Tensor(x) for x in (*raw_maps, boxes, labels, np.array([height, width], np.float32))]
        value, gradients = dynamic(*arguments)
        expected = slow_losses(raw_maps, boxes, labels, (height, width), 3, 0.5).sum()
        np.testing.assert_allclose(value.asnumpy(), expected, rtol=1e-5)
        if seed == 0:
            static_value, static_gradients = LossAndGradient(criterion)(*arguments)
            assert static_value.asnumpy() == value.asnumpy()
            for one, other in zip(gradients, static_gradients, strict=True):
                np.testing.assert_array_equal(one.asnumpy(), other.asnumpy())
    assert len(dynamic.compile_cache) == 1


def test_half_precision_maps_are_converted_to_float32(uncompiled):
    rng = np.random.default_rng(0)
    raw_maps = random_maps(rng, 1, 32, 32, 2, np.float16)
    boxes, labels = random_boxes(rng, 1, 3, 32, 32, 2)
    losses = YoloV3Criterion(ANCHORS, 2)(tuple(map(ms.Tensor, raw_maps)), ms.Tensor(boxes), ms.Tensor(labels), (32, 32))
    assert all(loss.dtype == ms.float32 for loss in losses)
    expected = slow_losses(raw_maps, boxes, labels, (32, 32), 2)
    np.testing.assert_allclose([float(loss) for loss in losses], expected, rtol=1e-5)


def test_extreme_maps_give_finite_losses_and_gradients(uncompiled):
    rng = np.random.default_rng(0)
    raw_maps = random_maps(rng, 1, 32, 32, 2, spread=300.0)
    boxes, labels = random_boxes(rng, 1, 3, 32, 32, 2)
    arguments = [ms.Tensor(x) for x in (*raw_maps, boxes, labels, np.array([32, 32], np.float32))]
    value, gradients = ms.value_and_grad(Total(YoloV3Criterion(ANCHORS, 2)), (0, 1, 2))(*arguments)
    assert np.isfinite(value.asnumpy())
    assert all(np.isfinite(gradient.asnumpy()).all() for gradient in gradients)


def test_wrong_arguments_are_usage_errors():
    for arguments in ((ANCHORS[:6], 3), (ANCHORS, 0), (ANCHORS, 3, 1.5), (ANCHORS, 3, 0.7, -0.1)):
        with pytest.raises(UsageError):
            YoloV3Criterion(*arguments)
