"""A depthwise convolution whose weight gradient is fast on CPU."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops


class DepthwiseConv(nn.Conv2d):
    """Depthwise `nn.Conv2d`, "same" padding, no bias: (N, C, H, W) -> (N, C, H / stride, W / stride).

    Same parameter and result as `nn.Conv2d`. In training on CPU, the gradient of the weights is computed as a
    convolution of the input with the gradient of the output, one group per image and channel: with the kernel of the
    library, a step of such a layer takes up to ten times as long (`python -m benchmarks.depthwise`).

    Args:
        channels: C.
        kernel_size: odd.
        stride: 1; or 2, for even H and W.
    """

    def __init__(self, channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(channels, channels, kernel_size, stride, pad_mode="same", group=channels)
        self.has_fast_gradient = ms.get_context("device_target") == "CPU"
        self.product = DepthwiseProduct(channels, kernel_size, stride)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        # In half precision the gradient would be in half precision too, unlike that of all other layers.
        if self.training and self.has_fast_gradient and x.dtype == ms.float32:
            return self.product(x, self.weight)
        return self.conv2d(x, self.weight)


class DepthwiseProduct(nn.Cell):
    """The convolution of an input (N, C, H, W) with weights (C, 1, k, k); arguments as in `DepthwiseConv`."""

    def __init__(self, channels: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        # "same" for even sizes: at stride 2 the odd pixel of padding is at the right and bottom.
        before, after = (kernel_size - stride) // 2, (kernel_size - stride + 1) // 2
        self.margin = (before, after, before, after)
        options = {"pad_mode": "same", "stride": stride, "group": channels}
        self.forward = ops.Conv2D(channels, kernel_size, **options)
        self.backward = ops.Conv2DTranspose(channels, kernel_size, **options)

    def construct(self, x: ms.Tensor, weight: ms.Tensor) -> ms.Tensor:
        return self.forward(x, weight)

    def bprop(self, x: ms.Tensor, weight: ms.Tensor, out: ms.Tensor, dout: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """Gradients of input and weights. The stride of the convolution is the dilation of its weight gradient."""
        n, c, h, w = x.shape
        _, _, rows, columns = dout.shape
        planes = ops.reshape(x, (1, n * c, h, w))
        kernels = ops.reshape(dout, (n * c, 1, rows, columns))
        correlate = ops.Conv2D(
            n * c, (rows, columns), pad_mode="pad", pad=self.margin, dilation=self.stride, group=n * c
        )
        per_image = ops.reshape(correlate(planes, kernels), (n, *weight.shape))
        total = ops.cast(ops.reduce_sum(ops.cast(per_image, ms.float32), 0), weight.dtype)
        return self.backward(dout, weight, x.shape), total
