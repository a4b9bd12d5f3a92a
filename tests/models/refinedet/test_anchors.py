"""Anchors and decoder of RefineDet against slow references."""

import math

import numpy as np
import pytest
from mindspore import Tensor

from msdet.models.refinedet.anchors import RefineDetDecoder, make_anchors

pytestmark = pytest.mark.usefixtures("graph_mode")


@pytest.mark.parametrize(("size", "count"), [((320, 320), 6375), ((512, 512), 16320), ((64, 128), 510)])
def test_anchors(size, count):
    expected = []
    for stride in (8, 16, 32, 64):
        for row in range(size[0] // stride):
            for column in range(size[1] // stride):
                for ratio in (1, 2, 1 / 2):
                    centre = ((column + 0.5) * stride, (row + 0.5) * stride)
                    expected.append((*centre, 4 * stride * math.sqrt(ratio), 4 * stride / math.sqrt(ratio)))
    anchors = make_anchors(*size)
    assert anchors.shape == (count, 4)
    np.testing.assert_allclose(anchors, expected, rtol=1e-6)
    clipped = np.minimum(expected, (size[1], size[0], size[1], size[0]))
    np.testing.assert_allclose(make_anchors(*size, clip=True), clipped, rtol=1e-6)


def slow_decode(anchor, loc):
    x, y, w, h = anchor
    return x + 0.1 * loc[0] * w, y + 0.1 * loc[1] * h, w * math.exp(0.2 * loc[2]), h * math.exp(0.2 * loc[3])


def test_decoding():
    rng = np.random.default_rng(0)
    count = len(make_anchors(64, 64))
    arm_loc, odm_loc = rng.normal(0, 1, (2, 2, count, 4)).astype(np.float32)
    arm_conf = rng.normal(0, 2, (2, count, 2)).astype(np.float32)
    odm_conf = rng.normal(0, 1, (2, count, 4)).astype(np.float32)
    raw = tuple(map(Tensor, (arm_loc, arm_conf, odm_loc, odm_conf)))
    boxes, scores = (tensor.asnumpy() for tensor in RefineDetDecoder(0.1)(raw, (64, 64)))
    filtered = 0
    for n in range(2):
        for i, anchor in enumerate(make_anchors(64, 64)):
            x, y, w, h = slow_decode(slow_decode(anchor, arm_loc[n, i]), odm_loc[n, i])
            np.testing.assert_allclose(boxes[n, i], (x - w / 2, y - h / 2, x + w / 2, y + h / 2), rtol=1e-4, atol=1e-3)
            power = np.exp(arm_conf[n, i].astype(float))
            chance = np.exp(odm_conf[n, i].astype(float))
            is_filtered = power[1] / power.sum() <= 0.1
            expected = np.zeros(3) if is_filtered else chance[1:] / chance.sum()
            np.testing.assert_allclose(scores[n, i], expected, rtol=1e-4, atol=1e-6)
            filtered += is_filtered
    assert 10 < filtered < 2 * count - 10


def test_a_diverged_regression_stays_finite():
    count = len(make_anchors(64, 64))
    raw = (np.full((1, count, 4), 1e4), np.zeros((1, count, 2)), np.full((1, count, 4), 1e4), np.zeros((1, count, 3)))
    boxes, scores = RefineDetDecoder()(tuple(Tensor(map_.astype(np.float32)) for map_ in raw), (64, 64))
    assert np.isfinite(boxes.asnumpy()).all() and np.isfinite(scores.asnumpy()).all()
