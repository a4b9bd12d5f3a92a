"""Gradients of the depthwise convolution against those of the library."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, amp, nn, ops

from msdet.models.efficientdet_d0.depthwise import DepthwiseConv

pytestmark = pytest.mark.usefixtures("graph_mode")


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_depthwise_gradients(kernel, stride):
    rng = np.random.default_rng(0)
    fast = DepthwiseConv(4, kernel, stride).set_train()
    assert fast.has_fast_gradient
    plain = nn.Conv2d(4, 4, kernel, stride, pad_mode="same", group=4)
    plain.weight.set_data(fast.weight)
    x = Tensor(rng.standard_normal((3, 4, 8, 12)).astype(np.float32))
    weights = Tensor(rng.standard_normal((3, 4, 8 // stride, 12 // stride)).astype(np.float32))

    def results_of(conv):
        def loss(x):
            return ops.reduce_sum(conv(x) * weights)

        of_x, (of_weight,) = ms.grad(loss, 0, conv.trainable_params())(x)
        return conv(x).asnumpy(), of_x.asnumpy(), of_weight.asnumpy()

    for ours, theirs in zip(results_of(fast), results_of(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_depthwise_gradients_of_half_precision_are_float32():
    conv = amp.auto_mixed_precision(nn.SequentialCell(DepthwiseConv(4, 3)).set_train(), "O2")

    def loss(x):
        return ops.reduce_sum(ops.cast(conv(x), ms.float32))

    (gradient,) = ms.grad(loss, None, conv.trainable_params())(Tensor(np.ones((1, 4, 4, 4), np.float32)))
    # The number of pixels, of 16, that each of the nine weights is applied to.
    np.testing.assert_array_equal(gradient.asnumpy()[0, 0], [[9, 12, 9], [12, 16, 12], [9, 12, 9]])
    assert gradient.dtype == ms.float32
