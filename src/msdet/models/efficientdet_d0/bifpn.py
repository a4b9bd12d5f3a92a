"""The bidirectional feature pyramid of EfficientDet (Tan et al., 2020, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import mindspore as ms
from mindspore import nn, ops

from msdet.layers.conv import Float32Cell, NormOptions, UpsampleNearest2x
from msdet.models.efficientdet_d0.layers import ConvNorm, HalvingPool, SeparableConv, Swish

_FUSION_EPS = 1e-4


class WeightedMean(Float32Cell):
    """Mean of maps of equal shape, weighted by relu(w) / (sum of relu(w) + 1e-4).

    "Fast normalised fusion" (Tan et al., 2020, section 3.3). In float32: the gradient of a weight is a sum over a map.
    """

    def construct(self, weights: ms.Tensor, maps: tuple) -> ms.Tensor:
        """Args: weights: (k,), before the relu; maps: k maps."""
        weights = ops.relu(weights)
        weights = weights / (ops.reduce_sum(weights) + _FUSION_EPS)
        mixed = maps[0] * weights[0]
        for i in range(1, len(maps)):
            mixed = mixed + maps[i] * weights[i]
        return mixed


class Fusion(nn.Cell):
    """A node of the pyramid: `WeightedMean` of maps of equal shape (N, C, h, w), swish, convolution, batch norm.

    Args:
        inputs: number of maps.
        channels: C.
        bn_momentum, bn_eps: of the batch norm.
    """

    def __init__(self, inputs: int, channels: int, bn_momentum: float = 0.99, bn_eps: float = 1e-3) -> None:
        super().__init__()
        self.fusion = ms.Parameter(ms.ops.ones((inputs,), ms.float32), name="fusion")
        self.mix = WeightedMean()
        self.swish = Swish()
        self.conv = SeparableConv(channels, channels)
        self.bn = nn.BatchNorm2d(channels, eps=bn_eps, momentum=bn_momentum)

    def construct(self, *maps: ms.Tensor) -> ms.Tensor:
        return self.bn(self.conv(self.swish(self.mix(self.fusion, maps))))


class PyramidInput(nn.Cell):
    """Backbone maps of strides 8, 16, 32 -> inputs of the first pyramid layer.

    These are P3 to P7 for the top-down path, and P4 and P5, by convolutions of their own, for the bottom-up path.

    Args:
        in_channels: of the three maps.
        channels: of the pyramid.
        pool_padding: see `HalvingPool`.
        norm: bn_momentum and bn_eps.
    """

    def __init__(
        self, in_channels: Sequence[int], channels: int, pool_padding: str, **norm: Unpack[NormOptions]
    ) -> None:
        super().__init__()
        fine, middle, coarse = in_channels
        self.p3 = ConvNorm(fine, channels, 1, has_bias=True, **norm)
        self.p4 = ConvNorm(middle, channels, 1, has_bias=True, **norm)
        self.p5 = ConvNorm(coarse, channels, 1, has_bias=True, **norm)
        self.p6 = ConvNorm(coarse, channels, 1, has_bias=True, **norm)
        self.p4_up = ConvNorm(middle, channels, 1, has_bias=True, **norm)
        self.p5_up = ConvNorm(coarse, channels, 1, has_bias=True, **norm)
        self.pool = HalvingPool(pool_padding)

    def construct(self, fine: ms.Tensor, middle: ms.Tensor, coarse: ms.Tensor) -> tuple:
        p6 = self.pool(self.p6(coarse))
        down = (self.p3(fine), self.p4(middle), self.p5(coarse), p6, self.pool(p6))
        return down, (self.p4_up(middle), self.p5_up(coarse))


class BiFpnLayer(nn.Cell):
    """One top-down and bottom-up pass: P3 to P7 (N, C, h, w), each half the size of the one before -> the same shapes.

    Args:
        channels: C.
        pool_padding: see `HalvingPool`.
        norm: bn_momentum and bn_eps.
    """

    def __init__(self, channels: int, pool_padding: str, **norm: Unpack[NormOptions]) -> None:
        super().__init__()
        self.p6_down = Fusion(2, channels, **norm)
        self.p5_down = Fusion(2, channels, **norm)
        self.p4_down = Fusion(2, channels, **norm)
        self.p3_out = Fusion(2, channels, **norm)
        self.p4_out = Fusion(3, channels, **norm)
        self.p5_out = Fusion(3, channels, **norm)
        self.p6_out = Fusion(3, channels, **norm)
        self.p7_out = Fusion(2, channels, **norm)
        self.upsample = UpsampleNearest2x()
        self.pool = HalvingPool(pool_padding)

    def construct(self, down: tuple, up: tuple) -> tuple:
        """`down`: P3 to P7; `up`: P4 and P5 of the bottom-up path, the same except in the first layer."""
        p3, p4, p5, p6, p7 = down
        p6_down = self.p6_down(p6, self.upsample(p7))
        p5_down = self.p5_down(p5, self.upsample(p6_down))
        p4_down = self.p4_down(p4, self.upsample(p5_down))
        p3_out = self.p3_out(p3, self.upsample(p4_down))
        p4_out = self.p4_out(up[0], p4_down, self.pool(p3_out))
        p5_out = self.p5_out(up[1], p5_down, self.pool(p4_out))
        p6_out = self.p6_out(p6, p6_down, self.pool(p5_out))
        p7_out = self.p7_out(p7, self.pool(p6_out))
        return p3_out, p4_out, p5_out, p6_out, p7_out


class BiFpn(nn.Cell):
    """Backbone maps of strides 8, 16, 32 -> P3 to P7, strides 8 to 128, each (N, channels, h, w).

    Args:
        in_channels: of the three maps.
        channels: of the pyramid.
        repeats: number of layers.
        pool_padding: see `HalvingPool`.
        norm: bn_momentum and bn_eps.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        repeats: int,
        pool_padding: str = "ignore",
        **norm: Unpack[NormOptions],
    ) -> None:
        super().__init__()
        self.inputs = PyramidInput(in_channels, channels, pool_padding, **norm)
        self.layers = nn.CellList([BiFpnLayer(channels, pool_padding, **norm) for _ in range(repeats)])

    def construct(self, fine: ms.Tensor, middle: ms.Tensor, coarse: ms.Tensor) -> tuple:
        down, up = self.inputs(fine, middle, coarse)
        for i in range(len(self.layers)):
            down = self.layers[i](down, up)
            up = (down[1], down[2])
        return down
