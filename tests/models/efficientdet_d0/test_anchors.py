"""Anchors and decoder of EfficientDet against slow references."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from msdet.models.efficientdet_d0.anchors import EfficientDetDecoder, make_anchors


def slow_anchors(height, width):
    rows = []
    for stride in (8, 16, 32, 64, 128):
        for row in range(height // stride):
            for column in range(width // stride):
                for octave in (0, 1, 2):
                    for w, h in ((1, 1), (1.4, 0.7), (0.7, 1.4)):
                        side = 4 * stride * 2 ** (octave / 3)
                        rows.append(((column + 0.5) * stride, (row + 0.5) * stride, side * w, side * h))
    return np.array(rows)


@pytest.mark.parametrize("size", [(128, 128), (256, 128)])
def test_anchors(size):
    np.testing.assert_allclose(make_anchors(*size), slow_anchors(*size), rtol=1e-6)


def test_the_published_number_of_anchors():
    assert len(make_anchors(512, 512)) == 49_104


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_decoding(mode):
    ms.set_context(mode=mode)
    rng = np.random.default_rng(0)
    anchors = slow_anchors(128, 256)
    regression = rng.standard_normal((2, len(anchors), 4)).astype(np.float32)
    logits = rng.standard_normal((2, len(anchors), 3)).astype(np.float32)
    boxes, scores = EfficientDetDecoder()((Tensor(regression), Tensor(logits)), (128, 256))
    ms.set_context(mode=ms.GRAPH_MODE)
    expected = np.empty(regression.shape)
    for n, a in np.ndindex(2, len(anchors)):
        cx, cy, w, h = anchors[a]
        dy, dx, dh, dw = regression[n, a]
        y, x, high, wide = cy + dy * h, cx + dx * w, h * np.exp(dh), w * np.exp(dw)
        expected[n, a] = x - wide / 2, y - high / 2, x + wide / 2, y + high / 2
    np.testing.assert_allclose(boxes.asnumpy(), expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(scores.asnumpy(), 1 / (1 + np.exp(-logits)), rtol=1e-5)


def test_a_diverged_regression_stays_finite():
    count = len(make_anchors(128, 128))
    raw = (Tensor(np.full((1, count, 4), 1e4, np.float32)), Tensor(np.zeros((1, count, 1), np.float32)))
    assert np.isfinite(EfficientDetDecoder()(raw, (128, 128))[0].asnumpy()).all()
