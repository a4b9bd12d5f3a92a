"""Convolution blocks, activations and upsampling against their definitions."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, amp, nn

from msdet.layers.conv import (
    ConvBnAct,
    Float32Cell,
    LeakyReLU,
    Mish,
    MishByTanh,
    SpatialMean,
    UpsampleNearest2x,
    init_uniform_fan_in,
    to_float32,
)

pytestmark = pytest.mark.usefixtures("graph_mode")


def test_leaky_relu_is_the_same_function_in_training():
    x = Tensor(np.linspace(-3, 3, 41, dtype=np.float32))
    cell = LeakyReLU()
    expected = np.where(x.asnumpy() > 0, x.asnumpy(), 0.1 * x.asnumpy())
    for training in (True, False):
        np.testing.assert_allclose(cell.set_train(training)(x).asnumpy(), expected, rtol=1e-6, atol=1e-7)


def test_upsampling_repeats_pixels():
    x = np.arange(2 * 3 * 2 * 5, dtype=np.float32).reshape(2, 3, 2, 5)
    np.testing.assert_array_equal(UpsampleNearest2x()(Tensor(x)).asnumpy(), x.repeat(2, 2).repeat(2, 3))


def test_same_padding_differs_only_where_it_should():
    """At stride 2 and an even size, the windows of "same" start one pixel later than with symmetric padding."""
    rng = np.random.default_rng(0)
    x = Tensor(rng.standard_normal((1, 2, 8, 8)).astype(np.float32))
    symmetric, same = (ConvBnAct(2, 3, 3, 2, padding=p).set_train(False) for p in ("symmetric", "same"))
    same.conv.weight.set_data(symmetric.conv.weight)
    shifted = Tensor(np.pad(x.asnumpy(), ((0, 0), (0, 0), (0, 2), (0, 2)))[:, :, 1:9, 1:9])
    expected = symmetric(shifted).asnumpy()
    result = same(x).asnumpy()
    # Away from the border, the result is that of the image shifted by one pixel.
    np.testing.assert_allclose(result[:, :, :-1, :-1][:, :, 1:, 1:], expected[:, :, 1:-1, 1:-1], rtol=1e-5, atol=1e-6)
    assert np.abs(result - symmetric(x).asnumpy()).max() > 1e-3


@pytest.mark.parametrize(("cell", "tolerance"), [(Mish, 2e-6), (MishByTanh, 1e-3)])
def test_mish(cell, tolerance):
    x = np.concatenate([np.linspace(-30, 30, 3001), [-1e4, -100, 100, 1e4]]).astype(np.float32)
    wide = x.astype(np.float64)
    expected = wide * np.tanh(np.log1p(np.exp(-np.abs(wide))) + np.maximum(wide, 0))
    layer = cell()
    np.testing.assert_allclose(layer(Tensor(x)).asnumpy(), expected, rtol=tolerance, atol=tolerance)
    halves = Tensor(x[np.abs(x) < 1000].astype(np.float16))
    assert np.isfinite(layer(halves).asnumpy()).all()
    step = 1e-5
    slope = [v * np.tanh(np.log1p(np.exp(-np.abs(v))) + np.maximum(v, 0)) for v in (wide + step, wide - step)]
    ms.set_context(mode=ms.PYNATIVE_MODE)
    gradient = ms.grad(lambda x: layer(x).sum())(Tensor(x)).asnumpy()
    expected = (slope[0] - slope[1]) / (2 * step)
    np.testing.assert_allclose(gradient, expected, atol=max(tolerance, 1e-5) * 2)
    gradient = ms.grad(lambda x: layer(x).sum())(halves).asnumpy()
    np.testing.assert_allclose(gradient, expected[np.abs(x) < 1000], atol=1e-2)


@pytest.mark.parametrize("keep_dims", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_spatial_mean(keep_dims, training):
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    found = SpatialMean(keep_dims).set_train(training)(Tensor(x)).asnumpy()
    np.testing.assert_allclose(found, x.mean((2, 3), keepdims=keep_dims), rtol=1e-5, atol=1e-6)


def test_mixed_precision_does_not_change_float32_cells():
    """The sum of squares overflows in float16."""

    class SumOfSquares(Float32Cell):
        def construct(self, x):
            return (x * x).sum()

    network = amp.auto_mixed_precision(nn.SequentialCell(SumOfSquares()), "O3")
    total = network(Tensor(np.full(4, 300, np.float16)))
    assert total.dtype == ms.float32 and float(total) == 360_000


def test_only_half_precision_is_cast():
    half, single, integer = (Tensor(np.ones(2, dtype)) for dtype in (np.float16, np.float32, np.int32))
    assert [x.dtype for x in to_float32((half, single, integer))] == [ms.float32, ms.float32, ms.int32]


def test_uniform_initialisation_by_fan_in():
    conv = nn.Conv2d(8, 16, 3, has_bias=True)
    init_uniform_fan_in(conv)
    bound = 1 / np.sqrt(8 * 9)
    for values in (conv.weight.asnumpy(), conv.bias.asnumpy()):
        assert 0.7 * bound < np.abs(values).max() <= bound
