"""Basic layers of RefineDet against slow references."""

import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, amp, nn, ops

from msdet.models.refinedet.layers import ChannelNorm, Upsample, upsample_weight

pytestmark = pytest.mark.usefixtures("graph_mode")


def test_the_transposed_convolution():
    rng = np.random.default_rng(0)
    weight, bias, x = rng.normal(0, 1, (5, 5, 2, 2)), rng.normal(0, 1, 5), rng.normal(0, 1, (2, 5, 3, 4))
    layer = Upsample(5)
    layer.conv.weight.set_data(Tensor(upsample_weight(weight).astype(np.float32)))
    layer.bias.set_data(Tensor(bias.astype(np.float32)))
    expected = np.zeros((2, 5, 6, 8)) + bias[:, None, None]
    for row, column in np.ndindex(3, 4):
        patch = np.einsum("ni,ioab->noab", x[:, :, row, column], weight)
        expected[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] += patch
    np.testing.assert_allclose(layer(Tensor(x.astype(np.float32))).asnumpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_channel_norm(training):
    x = np.random.default_rng(0).normal(0, 3, (2, 6, 3, 4)).astype(np.float32)
    found = ChannelNorm(6, 10.0).set_train(training)(Tensor(x)).asnumpy()
    for n, row, column in np.ndindex(2, 3, 4):
        vector = x[n, :, row, column]
        expected = 10 * vector / math.sqrt((vector.astype(float) ** 2).sum())
        np.testing.assert_allclose(found[n, :, row, column], expected, rtol=1e-5)


@pytest.mark.parametrize("level", ["O0", "O3"])
@pytest.mark.parametrize("training", [False, True])
def test_channel_norm_of_large_and_zero_pixels(uncompiled, level, training):
    """Squares that overflow in half precision, and pixels of zeros: maps of length 10 and 0, finite gradients."""
    x = np.random.default_rng(0).normal(0, 3, (1, 6, 3, 4)).astype(np.float32)
    x[..., 0] = 0
    x[..., 1] *= 1000
    norm = amp.auto_mixed_precision(nn.SequentialCell(ChannelNorm(6, 10.0)), level).set_train(training)
    kind = ms.float16 if level == "O3" else ms.float32
    out = norm(Tensor(x, kind)).asnumpy().astype(np.float64)
    lengths = np.sqrt((out**2).sum(1))
    np.testing.assert_allclose(lengths[..., 1:], 10, rtol=2e-3)
    assert (lengths[..., 0] == 0).all()
    if training:
        gradient = ms.grad(lambda x: ops.reduce_sum(norm(x) * 0.1))(Tensor(x, kind)).asnumpy()
        assert np.isfinite(gradient).all()
