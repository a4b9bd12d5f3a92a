"""The feature maps of EfficientNet-B0 (Tan & Le, 2019, table 1), without its classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import mindspore as ms
from mindspore import nn, ops

from msdet.layers.box_matching import count_up
from msdet.layers.conv import Float32Cell, NormOptions, SpatialMean
from msdet.models.efficientdet_d0.layers import ConvNorm, Swish, draw_by_fan_out

# Of B0: channels of the stem and of the seven stages, and blocks in each stage.
SHAPE = (32, 16, 24, 40, 80, 112, 192, 320)
LAYERS = (1, 2, 2, 3, 3, 4, 1)
# Of the stages: kernel, stride of the first block, widening of the channels inside a block.
_STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))
# The last stages of strides 8, 16 and 32.
_TAPPED = (2, 4, 6)
_SQUEEZE = 0.25


class Gate(Float32Cell):
    """x (N, C, H, W) times sigmoid(gate), gate (N, C, 1, 1). In float32: the gradient of a gate is a sum over a map."""

    suits_cpu = True

    def construct(self, x: ms.Tensor, gate: ms.Tensor) -> ms.Tensor:
        gate = ops.sigmoid(gate)
        if not (self.training and self.suits_cpu):
            return x * gate
        # On CPU a product that broadcasts by itself is slow and keeps an index of 16 bytes an element (measured in
        # MindSpore 2.10).
        return x * ops.broadcast_to(gate, x.shape)


class SqueezeExcite(nn.Cell):
    """Scales every channel by a gate that depends on the means of all (Hu et al., 2018): shape kept.

    Args:
        channels: of the map.
        hidden: channels between the two 1x1 convolutions.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1, has_bias=True)
        self.expand = nn.Conv2d(hidden, channels, 1, has_bias=True)
        self.swish = Swish()
        self.mean = SpatialMean()
        self.gate = Gate()
        draw_by_fan_out(self.reduce)
        draw_by_fan_out(self.expand)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.gate(x, self.expand(self.swish(self.reduce(self.mean(x)))))


class RowHash(Float32Cell):
    """A number in [0, 1) for each row of a batch, a hash of its values: (N, C, H, W) -> (N,) float32."""

    # A value, in units of the mean magnitude, times this is cut to a whole number, of which the last ten bits count.
    # Means or sums of the values themselves would not do: batch norm makes them the same for every batch of one image.
    _FINENESS = 65536.0
    _LOW_BITS = 1023
    # A multiplicative congruential generator (Fishman & Moore, 1986): both factors fit into 31 bits.
    _FACTOR = 950706376
    _PRIME = 2**31 - 1

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        values = ops.reshape(ops.stop_gradient(ops.cast(x, ms.float32)), (x.shape[0], -1))
        unit = ops.mean(ops.abs(values), 1, True) + 1e-12
        whole = ops.cast(values * ops.broadcast_to(self._FINENESS / unit, values.shape), ms.int32)
        digits = ops.bitwise_and(whole, ops.full_like(whole, self._LOW_BITS))
        # The number of the row tells two rows of equal values apart.
        total = ops.cast(ops.reduce_sum(digits, 1), ms.int64) + count_up(x.shape[0]) + 1
        return ops.cast(total * self._FACTOR % self._PRIME, ms.float32) / self._PRIME


class DropConnect(nn.Cell):
    """In training, drops a residual branch for some images of a batch and scales it up for the others (stochastic
    depth, Huang et al., 2016): (N, C, H, W) -> the same shape.

    The random numbers are a hash of the branch's own values, image by image: they change with every image and every
    update of the weights, no state of a generator has to be stored, and a training that is resumed from a checkpoint
    drops what an uninterrupted one drops. (The state of MindSpore's own generators cannot be saved.)

    Args:
        rate: share of the images, in 0..1, for which the branch is dropped.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.uniform = RowHash()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = ops.cast(self.uniform(x) >= self.rate, x.dtype) / (1 - self.rate)
        return x * ops.broadcast_to(ops.reshape(kept, (-1, 1, 1, 1)), x.shape)


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
        **norm: Unpack[NormOptions],
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
        self,
        shape: Sequence[int] = SHAPE,
        layers: Sequence[int] = LAYERS,
        drop_connect: float = 0.2,
        **norm: Unpack[NormOptions],
    ) -> None:
        super().__init__()
        self.stem = ConvNorm(3, shape[0], 3, stride=2, **norm)
        self.swish = Swish()
        count = sum(layers)
        blocks: list[MBConv] = []
        ends = []
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
        tapped: tuple = ()
        for i in range(len(self.blocks)):
            x = self.blocks[i](x)
            if i in self.taps:
                tapped += (x,)
        return tapped
