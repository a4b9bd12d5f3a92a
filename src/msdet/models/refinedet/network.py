"""RefineDet (Zhang et al., 2018): anchors are refined on the backbone maps, then refined again and classified on a
top-down pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import mindspore as ms
from mindspore import nn, ops

from msdet.layers.conv import NormOptions
from msdet.models.refinedet.anchors import ANCHORS_PER_CELL, STRIDES
from msdet.models.refinedet.layers import ChannelNorm, Conv, Upsample, init_xavier


class Head(nn.Cell):
    """One 3x3 convolution per level: maps (N, C, h, w) of four levels -> (N, P, values), P = 3 * h * w of all levels.

    Results are ordered by level, row, column, anchor.

    Args:
        channels: C of each level.
        values: number of values per anchor.
    """

    def __init__(self, channels: Sequence[int], values: int) -> None:
        super().__init__()
        self.values = values
        self.levels = nn.CellList(
            [nn.Conv2d(c, ANCHORS_PER_CELL * values, 3, pad_mode="pad", padding=1, has_bias=True) for c in channels]
        )
        for conv in self.levels:
            init_xavier(conv)

    def construct(self, maps: tuple) -> ms.Tensor:
        rows: tuple = ()
        for i in range(len(self.levels)):
            x = ops.transpose(self.levels[i](maps[i]), (0, 2, 3, 1))
            rows += (ops.reshape(x, (x.shape[0], -1, self.values)),)
        return ops.concat(rows, 1)


class TransferBlock(nn.Cell):
    """Transfer connection block (Zhang et al., section 3.1 and figure 2).

    Shape: a backbone map (N, C, h, w) and, except at the top, the output of the next coarser block (N, channels, h / 2,
    w / 2) -> (N, channels, h, w).

    Args:
        in_channels: C.
        channels: of the output.
        is_top: there is no coarser level.
        has_norm: batch norms instead of biases.
        norm: bn_momentum and bn_eps.
    """

    def __init__(
        self, in_channels: int, channels: int, is_top: bool, has_norm: bool = False, **norm: Unpack[NormOptions]
    ) -> None:
        super().__init__()
        self.first = Conv(in_channels, channels, 3, has_norm=has_norm, **norm)
        self.second = Conv(channels, channels, 3, has_relu=False, has_norm=has_norm, **norm)
        self.last = Conv(channels, channels, 3, has_norm=has_norm, **norm)
        self.is_top = is_top
        if not is_top:
            self.upsample = Upsample(channels, has_norm=has_norm, **norm)

    def construct(self, x: ms.Tensor, coarser: ms.Tensor) -> ms.Tensor:
        """`coarser` is not used in the top block."""
        x = self.second(self.first(x))
        if not self.is_top:
            x = x + self.upsample(coarser)
        return self.last(ops.relu(x))


class RefineDet(nn.Cell):
    """Images (N, 3, H, W), float32, H and W multiples of 64 -> arm_loc (N, P, 4), arm_conf (N, P, 2), odm_loc
    (N, P, 4), odm_conf (N, P, C + 1).

    P is 3 * H * W * (1/8^2 + 1/16^2 + 1/32^2 + 1/64^2): 6,375 at 320. The first of the 2 and of the C + 1 logits is
    that of the background.

    Args:
        backbone: a cell that returns maps of strides 8, 16, 32, with their channels in `out_channels`.
        extra: a cell that computes the map of stride 64 from that of stride 32.
        extra_channels: of that map.
        num_classes: C, object classes.
        channels: of the pyramid.
        scales: initial scales of a `ChannelNorm` on the first maps; empty for none.
        has_norm: batch norms in the transfer blocks.
        norm: bn_momentum and bn_eps.
    """

    def __init__(
        self,
        backbone: nn.Cell,
        extra: nn.Cell,
        extra_channels: int,
        num_classes: int,
        channels: int = 256,
        scales: Sequence[float] = (),
        has_norm: bool = False,
        **norm: Unpack[NormOptions],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.extra = extra
        sources = (*backbone.out_channels, extra_channels)
        self.norms = nn.CellList([ChannelNorm(c, s) for c, s in zip(sources, scales, strict=False)])
        self.arm_loc, self.arm_conf = Head(sources, 4), Head(sources, 2)
        self.transfer = nn.CellList(
            [TransferBlock(c, channels, level == len(sources) - 1, has_norm, **norm) for level, c in enumerate(sources)]
        )
        pyramid = (channels,) * len(STRIDES)
        self.odm_loc, self.odm_conf = Head(pyramid, 4), Head(pyramid, num_classes + 1)

    def construct(self, images: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor, ms.Tensor]:
        fine, middle, coarse = self.backbone(images)
        top = self.extra(coarse)
        if len(self.norms) == 2:
            fine, middle = self.norms[0](fine), self.norms[1](middle)
        sources = (fine, middle, coarse, top)
        p6 = self.transfer[3](top, top)
        p5 = self.transfer[2](coarse, p6)
        p4 = self.transfer[1](middle, p5)
        p3 = self.transfer[0](fine, p4)
        pyramid = (p3, p4, p5, p6)
        return self.arm_loc(sources), self.arm_conf(sources), self.odm_loc(pyramid), self.odm_conf(pyramid)
