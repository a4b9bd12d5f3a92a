"""The feature maps of EfficientNet-B0 (Tan & Le, 2019, table 1), without its classifier."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import nn, ops

from src.efficientdet_d0.layers import ConvNorm, Swish, draw_by_fan_out

# Of B0: channels of the stem and of the seven stages, and blocks in each stage.
SHAPE = (32, 16, 24, 40, 80, 112, 192, 320)
LAYERS = (1, 2, 2, 3, 3, 4, 1)
# Of the stages: kernel, stride of the first block, widening of the channels inside a block.
_STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))
# The last stages of strides 8, 16 and 32.
_TAPPED = (2, 4, 6)
_SQUEEZE = 0.25


class SqueezeExcite(nn.Cell):
    """Scales every channel by a gate that depends on the means of all (Hu et al., 2018): shape kept.

    Means are taken in float32: float16 would overflow while it adds up the pixels of a large map.

    Args:
        channels: of the map.
        hidden: channels between the two 1x1 convolutions.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1, has_bias=True)
        self.expand = nn.Conv2d(hidden, channels, 1, has_bias=True)
        self.swish = Swish()
        draw_by_fan_out(self.reduce)
        draw_by_fan_out(self.expand)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        if not self.training:
            means = ops.cast(ops.mean(ops.cast(x, ms.float32), (2, 3), True), x.dtype)
            gate = self.expand(self.swish(self.reduce(means)))
            return x * ops.sigmoid(gate)
        # The same in half the time: on CPU a mean over the last axis alone is fast, and a product that broadcasts by
        # itself is slow and keeps an index of 16 bytes an element (measured in MindSpore 2.10).
        n, c, h, w = x.shape
        wide = ops.cast(ops.reshape(x, (n, c, h * w)), ms.float32)
        means = ops.cast(ops.reshape(ops.mean(wide, 2), (n, c, 1, 1)), x.dtype)
        gate = self.expand(self.swish(self.reduce(means)))
        return x * ops.broadcast_to(ops.sigmoid(gate), (n, c, h, w))


class DropConnect(nn.Cell):
    """In training, leaves a residual branch out for some images of a batch and scales it up for the others (stochastic
    depth, Huang et al., 2016): (N, C, H, W) -> the same shape.

    The choice is drawn from the digits of a number that changes with every step, block and image, the mean magnitude of
    the branch over its root mean square: no generator has to be stored, and a training that is resumed from a
    checkpoint draws as one that never stopped. (The mean itself is no such number: with one image in a batch, batch
    norm makes it 0.)

    Args:
        rate: share of the images, in 0..1, for which the branch is left out.
    """

    # Images differ in the second or third digit of that number; 10 of the 24 bits of a float32 are left behind those.
    _DIGITS = 16411.3

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        if not self.training or self.rate == 0:
            return x
        values = ops.reshape(ops.stop_gradient(ops.cast(x, ms.float32)), (x.shape[0], -1))
        root = ops.sqrt(ops.mean(ops.square(values), 1))
        shape = ops.mean(ops.abs(values), 1) / (root + 1e-12)
        digits = ops.reshape(shape, (-1, 1, 1, 1)) * self._DIGITS
        uniform = digits - ops.floor(digits)
        kept = ops.cast(uniform >= self.rate, x.dtype) / (1 - self.rate)
        return x * ops.broadcast_to(kept, x.shape)


class MBConv(nn.Cell):
    """Inverted residual block: (N, in, H, W) -> (N, out, H / stride, W / stride).

    1x1 to `widening` times the channels (none for 1), depthwise, squeeze and excite, 1x1 to the output; the input is
    added where the shapes agree.

    Args:
        in_channels, out_channels, kernel_size, stride, widening: of the block.
        drop_connect: see `DropConnect`.
        norm: bn_momentum and bn_eps of `ConvNorm`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        widening: int,
        drop_connect: float,
        **norm: float,
    ) -> None:
        super().__init__()
        width = in_channels * widening
        self.is_widened = widening > 1
        if self.is_widened:
            self.expand = ConvNorm(in_channels, width, 1, **norm)
        self.depthwise = ConvNorm(width, width, kernel_size, stride, is_depthwise=True, **norm)
        self.excite = SqueezeExcite(width, max(1, int(in_channels * _SQUEEZE)))
        self.project = ConvNorm(width, out_channels, 1, **norm)
        self.swish = Swish()
        self.is_residual = stride == 1 and in_channels == out_channels
        self.drop_connect = DropConnect(drop_connect)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        y = self.swish(self.expand(x)) if self.is_widened else x
        y = self.project(self.excite(self.swish(self.depthwise(y))))
        return x + self.drop_connect(y) if self.is_residual else y


class EfficientNetB0(nn.Cell):
    """Images (N, 3, H, W), H and W multiples of 32 -> maps of strides 8, 16, 32 with 40, 112, 320 channels.

    Args:
        shape: channels of the stem and of the seven stages.
        layers: blocks in each stage.
        drop_connect: block i of n leaves its branch out with probability drop_connect * i / n; see `DropConnect`.
        norm: bn_momentum and bn_eps of `ConvNorm`.
    """

    def __init__(
        self, shape: Sequence[int] = SHAPE, layers: Sequence[int] = LAYERS, drop_connect: float = 0.2, **norm: float
    ) -> None:
        super().__init__()
        self.stem = ConvNorm(3, shape[0], 3, stride=2, **norm)
        self.swish = Swish()
        count = sum(layers)
        blocks, ends = [], []
        channels = shape[0]
        for (kernel, stride, widening), width, repeats in zip(_STAGES, shape[1:], layers, strict=True):
            for number in range(repeats):
                rate = drop_connect * len(blocks) / count
                blocks.append(MBConv(channels, width, kernel, 1 if number else stride, widening, rate, **norm))
                channels = width
            ends.append(len(blocks) - 1)
        self.blocks = nn.CellList(blocks)
        self.layers = tuple(layers)
        self.taps = tuple(ends[stage] for stage in _TAPPED)
        self.out_channels = tuple(shape[1 + stage] for stage in _TAPPED)

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        x = self.swish(self.stem(x))
        tapped = ()
        for i in range(len(self.blocks)):
            x = self.blocks[i](x)
            if i in self.taps:
                tapped += (x,)
        return tapped
