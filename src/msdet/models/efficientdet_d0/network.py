"""EfficientDet (Tan et al., 2020): EfficientNet, a bidirectional feature pyramid, and heads shared by all levels."""

from __future__ import annotations

import math
from typing import Unpack

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from msdet.layers.conv import NormOptions
from msdet.models.efficientdet_d0.anchors import ANCHORS_PER_CELL, STRIDES
from msdet.models.efficientdet_d0.bifpn import BiFpn
from msdet.models.efficientdet_d0.layers import SeparableConv, Swish

# Probability of every class in an untrained network (Lin et al., Focal Loss, 2017, section 4.1).
_PRIOR = 0.01


class Head(nn.Cell):
    """Maps (N, C, h, w) of five levels -> (N, A, values), A = 9 * h * w of all levels.

    The convolutions are shared by the levels; each level has its own batch norms. Results are ordered by level, row,
    column, anchor.

    Args:
        channels: C.
        repeats: convolutions before the predicting one.
        values: number of values per anchor.
        bn_momentum, bn_eps: of the batch norms.
    """

    def __init__(
        self, channels: int, repeats: int, values: int, bn_momentum: float = 0.99, bn_eps: float = 1e-3
    ) -> None:
        super().__init__()
        self.values = values
        self.layers = nn.CellList([SeparableConv(channels, channels) for _ in range(repeats)])
        self.norms = nn.CellList(
            [
                nn.CellList([nn.BatchNorm2d(channels, eps=bn_eps, momentum=bn_momentum) for _ in range(repeats)])
                for _ in STRIDES
            ]
        )
        self.predict = SeparableConv(channels, ANCHORS_PER_CELL * values)
        self.swish = Swish()

    def construct(self, levels: tuple) -> ms.Tensor:
        rows: tuple = ()
        for level in range(len(self.norms)):
            x = levels[level]
            for i in range(len(self.layers)):
                x = self.swish(self.norms[level][i](self.layers[i](x)))
            x = ops.transpose(self.predict(x), (0, 2, 3, 1))
            rows += (ops.reshape(x, (x.shape[0], -1, self.values)),)
        return ops.concat(rows, 1)


class EfficientDet(nn.Cell):
    """Images (N, 3, H, W), float32, H and W multiples of 128 -> regression (N, A, 4), classification (N, A, C).

    A is 9 * H * W * (1/8^2 + ... + 1/128^2): 49,104 at 512. The regression is dy, dx, dh, dw; the classification is
    logits.

    Args:
        backbone: a cell that returns maps of strides 8, 16, 32, with their channels in `out_channels`.
        num_classes: C, object classes.
        channels: of the pyramid and the heads.
        pyramid_repeats: see `BiFpn`.
        head_repeats: see `Head`.
        pool_padding: see `HalvingPool`.
        norm: bn_momentum and bn_eps.
    """

    def __init__(
        self,
        backbone: nn.Cell,
        num_classes: int,
        channels: int = 64,
        pyramid_repeats: int = 3,
        head_repeats: int = 3,
        pool_padding: str = "ignore",
        **norm: Unpack[NormOptions],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pyramid = BiFpn(backbone.out_channels, channels, pyramid_repeats, pool_padding, **norm)
        self.regression = Head(channels, head_repeats, 4, **norm)
        self.classification = Head(channels, head_repeats, num_classes, **norm)
        bias = self.classification.predict.pointwise.bias
        bias.set_data(ms.Tensor(np.full(bias.shape, -math.log((1 - _PRIOR) / _PRIOR), np.float32)))

    def construct(self, images: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        fine, middle, coarse = self.backbone(images)
        levels = self.pyramid(fine, middle, coarse)
        return self.regression(levels), self.classification(levels)
