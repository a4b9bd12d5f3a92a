"""Basic layers of EfficientDet; all of them train on CPU, run in graph mode and export."""

from __future__ import annotations

import math

import mindspore as ms
from mindspore import nn, ops
from mindspore.common.initializer import Normal

from msdet.layers.conv import init_conv
from msdet.models.efficientdet_d0.depthwise import DepthwiseConv


class Swish(nn.Cell):
    """x * sigmoid(x), shape kept (Ramachandran et al., 2017).

    In training the operator of the library is used, which stores less for the gradient; in inference it is written out,
    since the exporters do not support that operator.
    """

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        if self.training:
            return ops.silu(x)
        return x * ops.sigmoid(x)


class ConvNorm(nn.Cell):
    """Convolution, batch norm: (N, C, H, W) -> (N, out_channels, H / stride, W / stride), no activation.

    Padding is the "same" of TensorFlow: at stride 2 and an even size the odd pixel is at the right and bottom.

    Args:
        in_channels, out_channels, kernel_size, stride: of the convolution.
        is_depthwise: depthwise convolution, with in_channels = out_channels and without bias.
        has_bias: redundant before a batch norm, but present in published weights.
        bn_momentum: moving = bn_momentum * moving + (1 - bn_momentum) * batch.
        bn_eps: added to the variance.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        is_depthwise: bool = False,
        has_bias: bool = False,
        bn_momentum: float = 0.99,
        bn_eps: float = 1e-3,
    ) -> None:
        super().__init__()
        if is_depthwise:
            self.conv = DepthwiseConv(in_channels, kernel_size, stride)
        else:
            self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, pad_mode="same", has_bias=has_bias)
        init_fan_out(self.conv)
        self.bn = nn.BatchNorm2d(out_channels, eps=bn_eps, momentum=bn_momentum)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.bn(self.conv(x))


class SeparableConv(nn.Cell):
    """3x3 depthwise convolution without bias, then 1x1 with bias: (N, C, H, W) -> (N, out_channels, H, W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise = DepthwiseConv(in_channels, 3)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, has_bias=True)
        init_fan_in(self.depthwise)
        init_fan_in(self.pointwise)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.pointwise(self.depthwise(x))


class HalvingPool(nn.Cell):
    """Maximum over 3x3 windows at stride 2, "same" padding: (N, C, H, W) -> (N, C, H / 2, W / 2), H and W even.

    Args:
        padding: at the right and bottom: `ignore` as in TensorFlow, or `zero` as in the PyTorch port of zylo117, where
            a window of negative values at the border gives 0.
    """

    def __init__(self, padding: str = "ignore") -> None:
        super().__init__()
        self.is_zero = padding == "zero"
        self.pool = nn.MaxPool2d(3, 2, pad_mode="valid" if self.is_zero else "same")
        self.pad = ops.Pad(((0, 0), (0, 0), (0, 1), (0, 1)))

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.pool(self.pad(x)) if self.is_zero else self.pool(x)


def init_fan_out(conv: nn.Conv2d) -> None:
    """Initialises the weight from N(0, 2 / fan out), fan out = kernel area * output channels / groups; bias 0."""
    out_channels, _, height, width = conv.weight.shape
    init_conv(conv, Normal(math.sqrt(2 * conv.group / (height * width * out_channels))))


def init_fan_in(conv: nn.Conv2d) -> None:
    """Initialises the weight from N(0, 1 / fan in), fan in = kernel area * input channels of a group; bias 0."""
    _, channels, height, width = conv.weight.shape
    init_conv(conv, Normal(math.sqrt(1 / (height * width * channels))))
