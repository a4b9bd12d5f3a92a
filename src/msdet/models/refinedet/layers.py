"""Basic layers of RefineDet; all of them train on CPU, run in graph mode and export."""

from __future__ import annotations

from typing import Unpack

import mindspore as ms
import numpy as np
from mindspore import Parameter, nn, ops
from mindspore.common.initializer import HeNormal, XavierUniform

from msdet.layers.conv import Float32Cell, NormOptions, init_conv

_NORM_EPS = 1e-10


class Conv(nn.Cell):
    """Convolution, optional batch norm, optional ReLU: (N, C, H, W) -> (N, out_channels, H / stride, W / stride).

    Args:
        in_channels, out_channels, kernel_size, stride, dilation: of the convolution; at stride 1 the size is kept.
        has_relu: whether a ReLU follows.
        has_norm: a batch norm instead of a bias.
        norm: bn_momentum and bn_eps.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        dilation: int = 1,
        has_relu: bool = True,
        has_norm: bool = False,
        **norm: Unpack[NormOptions],
    ) -> None:
        super().__init__()
        padding = dilation * (kernel_size - 1) // 2
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            pad_mode="pad",
            padding=padding,
            dilation=dilation,
            has_bias=not has_norm,
        )
        init_he(self.conv)
        self.has_norm, self.has_relu = has_norm, has_relu
        if has_norm:
            self.bn = batch_norm(out_channels, **norm)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        x = self.conv(x)
        if self.has_norm:
            x = self.bn(x)
        return ops.relu(x) if self.has_relu else x


class ChannelNorm(Float32Cell):
    """Scales the vector of channels at every pixel to length 1, then each channel by a learnt factor; shape kept.

    L2 normalisation (Liu et al., ParseNet, 2015, section 3.2). Computed in float32 even if the network runs in float16,
    where squares overflow from 256 on. A pixel of zeros stays zero, and its gradient is that of a length of 1, since
    the gradient of the square root is infinite there.

    Args:
        channels: C.
        scale: initial value of the factors.
    """

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.weight = Parameter(ms.Tensor(np.full(channels, scale, np.float32)), name="weight")

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        wide = ops.cast(x, ms.float32)
        weight = ops.cast(ops.reshape(self.weight, (1, -1, 1, 1)), ms.float32)
        if not self.training:
            # An exported graph may run in float16 as a whole: without this power of two, which is exact, the sum would
            # overflow, and a smaller minimum length would be 0.
            small = wide * 2.0**-6
            length = ops.maximum(ops.sqrt(ops.reduce_sum(ops.square(small), (1,))), 2.0**-24)
            return ops.cast(small / ops.expand_dims(length, 1) * weight, x.dtype)
        total = ops.reduce_sum(ops.square(wide), (1,))
        length = ops.sqrt(total + ops.cast(total == 0, ms.float32)) + _NORM_EPS
        # Broadcast explicitly and without division: on CPU both would keep an index of 16 bytes per element.
        inverse = ops.broadcast_to(ops.expand_dims(ops.reciprocal(length), 1), x.shape)
        return ops.cast(wide * inverse * ops.broadcast_to(weight, x.shape), x.dtype)


class Upsample(nn.Cell):
    """Transposed 2x2 convolution of stride 2: (N, C, H, W) -> (N, C, 2H, 2W).

    Implemented as a 1x1 convolution to four values per channel, rearranged as 2x2 pixels, which is equivalent since the
    windows do not overlap: the operator of the library exports to a file that onnxruntime rejects.

    Args:
        channels: C.
        has_norm: a batch norm instead of a bias.
        norm: bn_momentum and bn_eps.
    """

    def __init__(self, channels: int, has_norm: bool = False, **norm: Unpack[NormOptions]) -> None:
        super().__init__()
        self.channels = channels
        self.conv = nn.Conv2d(channels, 4 * channels, 1, has_bias=False)
        init_he(self.conv)
        self.has_norm = has_norm
        if has_norm:
            self.bn = batch_norm(channels, **norm)
        else:
            self.bias = Parameter(ms.Tensor(np.zeros(channels, np.float32)), name="bias")

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        n, _, h, w = x.shape
        x = ops.reshape(self.conv(x), (n, self.channels, 2, 2, h, w))
        x = ops.reshape(ops.transpose(x, (0, 1, 4, 2, 5, 3)), (n, self.channels, 2 * h, 2 * w))
        if self.has_norm:
            return self.bn(x)
        return x + ops.broadcast_to(ops.reshape(self.bias, (1, -1, 1, 1)), x.shape)


def upsample_weight(weight: np.ndarray) -> np.ndarray:
    """Converts the weight (in, out, 2, 2) of a transposed convolution to that of `Upsample`, (4 out, in, 1, 1)."""
    return weight.transpose(1, 2, 3, 0).reshape(-1, weight.shape[0], 1, 1)


def batch_norm(channels: int, bn_momentum: float = 0.9, bn_eps: float = 1e-5) -> nn.BatchNorm2d:
    """Batch norm: moving = bn_momentum * moving + (1 - bn_momentum) * batch; bn_eps is added to the variance."""
    return nn.BatchNorm2d(channels, eps=bn_eps, momentum=bn_momentum)


def init_he(conv: nn.Conv2d) -> None:
    """Initialises the weight from N(0, 2 / fan in) (He et al., 2015), for a following ReLU; bias 0."""
    init_conv(conv, HeNormal(mode="fan_in", nonlinearity="relu"))


def init_xavier(conv: nn.Conv2d) -> None:
    """Initialises the weight from U(-b, b), b^2 = 6 / (fan in + fan out) (Glorot & Bengio, 2010); bias 0."""
    init_conv(conv, XavierUniform())
