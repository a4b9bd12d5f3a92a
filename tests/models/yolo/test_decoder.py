"""The YOLO decoder against a slow reference, with dynamic shapes, and in both export formats."""

from __future__ import annotations

import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from msdet.errors import UsageError
from msdet.models.yolo.decoder import YoloDecoder, anchors_by_map, scales_by_map

ANCHORS = [(10, 13), (16, 30), (33, 23), (30, 61), (62, 45), (59, 119), (116, 90), (156, 198), (373, 326)]
STRIDES = (32, 16, 8)
SCALES = (1.2, 1.1, 1.05)  # strides 8, 16, 32


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def slow_decode(raw_maps, num_classes, scale_x_y):
    """Reference: boxes and scores cell by cell, in float64."""
    boxes, scores = [], []
    for n in range(len(raw_maps[0])):
        boxes.append([])
        scores.append([])
        for i, raw_map in enumerate(raw_maps):
            _, _, rows, columns = raw_map.shape
            stride, scale = STRIDES[i], scale_x_y[2 - i]
            for a, row, column in np.ndindex(3, rows, columns):
                depth = 5 + num_classes
                raw = raw_map[n, a * depth : (a + 1) * depth, row, column].astype(np.float64)
                x = (column + scale * sigmoid(raw[0]) - (scale - 1) / 2) * stride
                y = (row + scale * sigmoid(raw[1]) - (scale - 1) / 2) * stride
                width, height = np.exp(raw[2:4]) * ANCHORS[3 * (2 - i) + a]
                boxes[n].append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
                scores[n].append([sigmoid(raw[4]) * sigmoid(c) for c in raw[5:]])
    return np.array(boxes), np.array(scores)


def random_maps(rng, batch, height, width, num_classes):
    shapes = [(batch, 3 * (5 + num_classes), height // s, width // s) for s in STRIDES]
    return tuple(rng.normal(0, 1, shape).astype(np.float32) for shape in shapes)


class DecoderOfThreeMaps(nn.Cell):
    """A decoder with the maps as separate inputs, as in a deployed network."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def construct(self, coarse, middle, fine):
        return self.decoder((coarse, middle, fine), None)


def check(outputs, raw_maps, num_classes, scale_x_y):
    boxes, scores = slow_decode(raw_maps, num_classes, scale_x_y)
    np.testing.assert_allclose(outputs[0], boxes, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(outputs[1], scores, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("num_classes", "scale_x_y"), [(1, (1, 1, 1)), (3, SCALES)])
def test_against_the_reference(num_classes, scale_x_y):
    raw_maps = random_maps(np.random.default_rng(0), 2, 64, 96, num_classes)
    decoder = YoloDecoder(ANCHORS, num_classes, scale_x_y)
    outputs = decoder(tuple(map(ms.Tensor, raw_maps)), (64, 96))
    check([x.asnumpy() for x in outputs], raw_maps, num_classes, scale_x_y)


def test_improbable_classes_score_zero():
    raw_maps = random_maps(np.random.default_rng(0), 1, 32, 64, 3)
    tensors = tuple(map(ms.Tensor, raw_maps))
    boxes, scores = (x.asnumpy() for x in YoloDecoder(ANCHORS, 3)(tensors))
    unchanged, filtered = (x.asnumpy() for x in YoloDecoder(ANCHORS, 3, min_class_probability=0.6)(tensors))
    probability = np.concatenate(
        [(1 / (1 + np.exp(-raw.reshape(1, 3, 8, -1)[:, :, 5:]))).swapaxes(2, 3).reshape(1, -1, 3) for raw in raw_maps],
        1,
    )
    np.testing.assert_array_equal(boxes, unchanged)
    np.testing.assert_array_equal(filtered, scores * (probability > 0.6))
    assert 0 < (filtered > 0).mean() < 1


def test_rows_are_ordered_by_map_and_anchor():
    raw_maps = tuple(np.zeros((1, 18, 2 * k, 3 * k), np.float32) for k in (1, 2, 4))
    boxes, scores = YoloDecoder(ANCHORS, 1)(tuple(map(ms.Tensor, raw_maps)), (64, 96))
    boxes = boxes.asnumpy()[0]
    assert boxes.shape == (3 * (6 + 24 + 96), 4)
    np.testing.assert_allclose(scores.asnumpy(), 0.25)
    sizes = boxes[:, 2:] - boxes[:, :2]
    # The first cell of each anchor of each map.
    first = [0, 6, 12, 18, 42, 66, 90, 186, 282]
    np.testing.assert_allclose(sizes[first], np.array(ANCHORS)[[6, 7, 8, 3, 4, 5, 0, 1, 2]], rtol=1e-5)
    centres = (boxes[:, 2:] + boxes[:, :2]) / 2
    np.testing.assert_allclose(
        centres[:6], [[16, 16], [48, 16], [80, 16], [16, 48], [48, 48], [80, 48]], rtol=1e-5, atol=1e-4
    )


def test_one_compilation_serves_all_sizes():
    ms.set_context(mode=ms.GRAPH_MODE)
    decoder = DecoderOfThreeMaps(YoloDecoder(ANCHORS, 2, SCALES))
    decoder.set_inputs(*(ms.Tensor(shape=[None, 21, None, None], dtype=ms.float32) for _ in STRIDES))
    for batch, height, width in ((1, 32, 64), (3, 96, 32)):
        raw_maps = random_maps(np.random.default_rng(height), batch, height, width, 2)
        outputs = decoder(*map(ms.Tensor, raw_maps))
        check([x.asnumpy() for x in outputs], raw_maps, 2, SCALES)
    assert len(decoder.compile_cache) == 1


def test_exports_to_mindir_and_onnx(graph_mode, check_exports):
    def compare(theirs, ours):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)

    decoder = DecoderOfThreeMaps(YoloDecoder(ANCHORS, 3, SCALES, 0.2)).set_train(False)
    check_exports(decoder, random_maps(np.random.default_rng(0), 2, 64, 96, 3), compare)


def test_diverged_sizes_stay_finite():
    raw_maps = tuple(np.full((1, 18, k, k), 500.0, np.float32) for k in (1, 2, 4))
    boxes, scores = YoloDecoder(ANCHORS, 1)(tuple(map(ms.Tensor, raw_maps)))
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    assert np.isfinite(area.asnumpy()).all()
    assert np.isfinite(scores.asnumpy()).all()


def test_anchors_and_scales_follow_the_order_of_the_maps():
    groups = anchors_by_map(ANCHORS)
    np.testing.assert_array_equal(groups[0], ANCHORS[6:])
    np.testing.assert_array_equal(groups[2], ANCHORS[:3])
    assert scales_by_map(SCALES) == (1.05, 1.1, 1.2)


@pytest.mark.parametrize("anchors", [ANCHORS[:8], [(1, 2, 3)] * 9, [(0, 5)] * 9, [(float("nan"), 5)] * 9, "abc", None])
def test_wrong_anchors_are_usage_errors(anchors):
    with pytest.raises(UsageError, match="anchors"):
        YoloDecoder(anchors, 3)


@pytest.mark.parametrize("scales", [(1, 1), (0.5, 1, 1), (1, 1, float("inf"))])
def test_wrong_scales_are_usage_errors(scales):
    with pytest.raises(UsageError, match="scale_x_y"):
        YoloDecoder(ANCHORS, 3, scales)
