"""EfficientNet-B0 (Tan & Le, 2019, table 1) as a backbone, without its classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import mindspore as ms
from mindspore import nn, ops

from msdet.layers.box_matching import constant_arange
from msdet.layers.conv import Float32Cell, NormOptions, SpatialMean
from msdet.models.efficientdet_d0.layers import ConvNorm, Swish, init_fan_out

# Of B0: channels of the stem and of the seven stages; blocks per stage.
CHANNELS = (32, 16, 24, 40, 80, 112, 192, 320)
LAYERS = (1, 2, 2, 3, 3, 4, 1)
# Per stage: kernel size, stride of the first block, expansion of the channels within a block.
_STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))
# The last stages of strides 8, 16 and 32.
_OUTPUT_STAGES = (2, 4, 6)
_SQUEEZE = 0.25


class Gate(Float32Cell):
    """x (N, C, H, W) times sigmoid(gate (N, C, 1, 1)). In float32: the gradient of the gate is a sum over a map."""

    cpu_optimized = True

    def construct(self, x: ms.Tensor, gate: ms.Tensor) -> ms.Tensor:
        gate = ops.sigmoid(gate)
        if not (self.training and self.cpu_optimized):
            return x * gate
        # On CPU, implicit broadcasting is slow and keeps an index of 16 bytes per element (measured in MindSpore 2.10).
        return x * ops.broadcast_to(gate, x.shape)


class SqueezeExcite(nn.Cell):
    """Squeeze and excitation (Hu et al., 2018): scales each channel by a gate computed from all channel means.

    Args:
        channels: of input and output.
        hidden: channels between the two 1x1 convolutions.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1, has_bias=True)
        self.expand = nn.Conv2d(hidden, channels, 1, has_bias=True)
        self.swish = Swish()
        self.mean = SpatialMean()
        self.gate = Gate()
        init_fan_out(self.reduce)
        init_fan_out(self.expand)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.gate(x, self.expand(self.swish(self.reduce(self.mean(x)))))


class ImageHash(Float32Cell):
    """Hash of the values of each image of a batch as a number in [0, 1): (N, C, H, W) -> float32 (N,)."""

    # Values in units of the mean magnitude are multiplied by this and truncated; the last ten bits are used. Means or
    # sums of the values themselves would not do: after batch norm they are the same for every batch of one image.
    _RESOLUTION = 65536.0
    _LOW_BITS = 1023
    # Multiplicative congruential generator (Fishman & Moore, 1986); both constants fit into 31 bits.
    _FACTOR = 950706376
    _PRIME = 2**31 - 1

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        values = ops.reshape(ops.stop_gradient(ops.cast(x, ms.float32)), (x.shape[0], -1))
        unit = ops.mean(ops.abs(values), 1, True) + 1e-12
        integers = ops.cast(values * ops.broadcast_to(self._RESOLUTION / unit, values.shape), ms.int32)
        digits = ops.bitwise_and(integers, ops.full_like(integers, self._LOW_BITS))
        # The index of the image distinguishes images of equal values.
        total = ops.cast(ops.reduce_sum(digits, 1), ms.int64) + constant_arange(x.shape[0]) + 1
        return ops.cast(total * self._FACTOR % self._PRIME, ms.float32) / self._PRIME


class DropConnect(nn.Cell):
    """In training, drops a residual branch for some images of a batch and scales it up for the others; shape kept.

    Stochastic depth (Huang et al., 2016). The random numbers are a hash of the values of the branch, per image: they
    change with every image and every update of the weights and need no stored state, so that a resumed training drops
    the same branches as an uninterrupted one. (The state of MindSpore's generators cannot be saved.)

    Args:
        rate: fraction of the images, in 0..1, for which the branch is dropped.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.uniform = ImageHash()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = ops.cast(self.uniform(x) >= self.rate, x.dtype) / (1 - self.rate)
        return x * ops.broadcast_to(ops.reshape(kept, (-1, 1, 1, 1)), x.shape)


class MBConv(nn.Cell):
    """Inverted residual block: (N, in, H, W) -> (N, out, H / stride, W / stride).

    1x1 convolution to `expansion` times the channels (omitted for 1), depthwise convolution, squeeze and excitation,
    1x1 convolution to the output; the input is added if the shapes are equal.

    Args:
        in_channels, out_channels, kernel_size, stride, expansion: of the block.
        drop_connect: see `DropConnect`.
        norm: bn_momentum and bn_eps of `ConvNorm`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        expansion: int,
        drop_connect: float,
        **norm: Unpack[NormOptions],
    ) -> None:
        super().__init__()
        width = in_channels * expansion
        self.is_expanded = expansion > 1
        if self.is_expanded:
            self.expand = ConvNorm(in_channels, width, 1, **norm)
        self.depthwise = ConvNorm(width, width, kernel_size, stride, is_depthwise=True, **norm)
        self.excite = SqueezeExcite(width, max(1, int(in_channels * _SQUEEZE)))
        self.project = ConvNorm(width, out_channels, 1, **norm)
        self.swish = Swish()
        self.is_residual = stride == 1 and in_channels == out_channels
        self.drop_connect = DropConnect(drop_connect)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        y = self.swish(self.expand(x)) if self.is_expanded else x
        y = self.project(self.excite(self.swish(self.depthwise(y))))
        return x + self.drop_connect(y) if self.is_residual else y


class EfficientNetB0(nn.Cell):
    """Images (N, 3, H, W), H and W multiples of 32 -> maps of strides 8, 16, 32 with 40, 112, 320 channels.

    Args:
        channels: of the stem and of the seven stages.
        layers: blocks per stage.
        drop_connect: block i of n drops its branch with probability drop_connect * i / n; see `DropConnect`.
        norm: bn_momentum and bn_eps of `ConvNorm`.
    """

    def __init__(
        self,
        channels: Sequence[int] = CHANNELS,
        layers: Sequence[int] = LAYERS,
        drop_connect: float = 0.2,
        **norm: Unpack[NormOptions],
    ) -> None:
        super().__init__()
        self.stem = ConvNorm(3, channels[0], 3, stride=2, **norm)
        self.swish = Swish()
        count = sum(layers)
        blocks: list[MBConv] = []
        ends = []
        in_channels = channels[0]
        for (kernel, stride, expansion), width, repeats in zip(_STAGES, channels[1:], layers, strict=True):
            for number in range(repeats):
                rate = drop_connect * len(blocks) / count
                blocks.append(MBConv(in_channels, width, kernel, 1 if number else stride, expansion, rate, **norm))
                in_channels = width
            ends.append(len(blocks) - 1)
        self.blocks = nn.CellList(blocks)
        self.layers = tuple(layers)
        self.output_blocks = tuple(ends[stage] for stage in _OUTPUT_STAGES)
        self.out_channels = tuple(channels[1 + stage] for stage in _OUTPUT_STAGES)

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        x = self.swish(self.stem(x))
        outputs: tuple = ()
        for i in range(len(self.blocks)):
            x = self.blocks[i](x)
            if i in self.output_blocks:
                outputs += (x,)
        return outputs
