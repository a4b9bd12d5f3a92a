"""Basic layers of EfficientDet against slow references."""

import numpy as np
import pytest
from mindspore import Tensor

from msdet.models.efficientdet_d0.layers import ConvNorm, HalvingPool, SeparableConv, Swish

pytestmark = pytest.mark.usefixtures("graph_mode")


@pytest.mark.parametrize("padding", ["ignore", "zero"])
def test_pooling_at_the_border(padding):
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 8)).astype(np.float32) - 3
    padded = np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=0 if padding == "zero" else -np.inf)
    expected = np.empty((2, 3, 3, 4), np.float32)
    for row, column in np.ndindex(3, 4):
        expected[:, :, row, column] = padded[:, :, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3].max((2, 3))
    np.testing.assert_array_equal(HalvingPool(padding)(Tensor(x)).asnumpy(), expected)


@pytest.mark.parametrize("training", [True, False])
def test_swish(training):
    x = np.linspace(-20, 20, 401, dtype=np.float32)
    found = Swish().set_train(training)(Tensor(x)).asnumpy()
    np.testing.assert_allclose(found, x / (1 + np.exp(-x.astype(np.float64))), rtol=1e-4, atol=1e-6)


def test_a_separable_convolution_against_loops():
    rng = np.random.default_rng(0)
    layer, x = SeparableConv(3, 2), rng.standard_normal((1, 3, 4, 5)).astype(np.float32)
    layer.pointwise.bias.set_data(Tensor(np.float32([1, 2])))
    kernel, mix = layer.depthwise.weight.asnumpy(), layer.pointwise.weight.asnumpy()[:, :, 0, 0]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    spatial = sum(
        kernel[:, 0, i, j, None, None] * padded[:, :, i : i + 4, j : j + 5] for i in range(3) for j in range(3)
    )
    expected = np.einsum("nchw,oc->nohw", spatial, mix) + np.float32([1, 2])[:, None, None]
    np.testing.assert_allclose(layer(Tensor(x)).asnumpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("is_depthwise", "fan_out"), [(False, 9 * 64), (True, 9)])
def test_convolutions_are_initialised_by_fan_out(is_depthwise, fan_out):
    weight = ConvNorm(64, 64, 3, is_depthwise=is_depthwise).conv.weight.asnumpy()
    assert weight.std() == pytest.approx(np.sqrt(2 / fan_out), rel=0.15)
