"""YOLOv3: three detection heads on DarkNet53 (Redmon & Farhadi, 2018)."""

from __future__ import annotations

import math

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from src.common.layers import ConvBnAct, UpsampleNearest2x, fan_in_uniform

ANCHORS_PER_MAP = 3


class DetectionBlock(nn.Cell):
    """Five alternating convolutions, then the head: (N, in, h, w) -> branch (N, width, h, w), raw map (N, out, h, w).

    Args:
        in_channels: of the map that comes in.
        width: channels after the 1x1 convolutions; the 3x3 ones have twice as many.
        out_channels: 3 * (5 + classes).
        objectness_prior: see `YoloV3`.
        conv: padding, bn_momentum and bn_eps of `ConvBnAct`.
    """

    def __init__(
        self, in_channels: int, width: int, out_channels: int, objectness_prior: float, **conv: object
    ) -> None:
        super().__init__()
        self.trunk = nn.SequentialCell(
            ConvBnAct(in_channels, width, 1, **conv),
            ConvBnAct(width, 2 * width, 3, **conv),
            ConvBnAct(2 * width, width, 1, **conv),
            ConvBnAct(width, 2 * width, 3, **conv),
            ConvBnAct(2 * width, width, 1, **conv),
        )
        self.expand = ConvBnAct(width, 2 * width, 3, **conv)
        self.predict = nn.Conv2d(2 * width, out_channels, 1, has_bias=True)
        fan_in_uniform(self.predict)
        _start_objectness(self.predict, objectness_prior)

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        branch = self.trunk(x)
        return branch, self.predict(self.expand(branch))


class YoloV3(nn.Cell):
    """Images (N, 3, H, W), float32, H and W multiples of 32 -> raw maps of strides 32, 16, 8.

    Each raw map is (N, 3 * (5 + num_classes), h, w), channels anchor-major: tx, ty, tw, th, objectness, classes.

    Args:
        backbone: a cell that returns maps of strides 8, 16, 32 and tells their channels as `out_channels`.
        num_classes: object classes.
        objectness_prior: mean objectness of the untrained network, 0..1. Nearly all cells hold no object: with 0.5 the
            first hundreds of steps are spent on learning that (Lin et al., Focal Loss, 2017, section 4.1).
        conv: padding, bn_momentum and bn_eps of the head's `ConvBnAct`; its activation is always leaky.
    """

    def __init__(self, backbone: nn.Cell, num_classes: int, objectness_prior: float = 0.5, **conv: object) -> None:
        super().__init__()
        channels8, channels16, channels32 = backbone.out_channels
        out = ANCHORS_PER_MAP * (5 + num_classes)
        self.backbone = backbone
        self.block32 = DetectionBlock(channels32, channels32 // 2, out, objectness_prior, **conv)
        self.lateral16 = ConvBnAct(channels32 // 2, channels16 // 2, 1, **conv)
        self.block16 = DetectionBlock(channels16 + channels16 // 2, channels16 // 2, out, objectness_prior, **conv)
        self.lateral8 = ConvBnAct(channels16 // 2, channels8 // 2, 1, **conv)
        self.block8 = DetectionBlock(channels8 + channels8 // 2, channels8 // 2, out, objectness_prior, **conv)
        self.upsample = UpsampleNearest2x()

    def construct(self, images: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        stride8, stride16, stride32 = self.backbone(images)
        branch, raw32 = self.block32(stride32)
        branch, raw16 = self.block16(ops.concat((self.upsample(self.lateral16(branch)), stride16), 1))
        _, raw8 = self.block8(ops.concat((self.upsample(self.lateral8(branch)), stride8), 1))
        return raw32, raw16, raw8


def _start_objectness(predict: nn.Conv2d, prior: float) -> None:
    bias = predict.bias.asnumpy().reshape(ANCHORS_PER_MAP, -1).copy()
    bias[:, 4] += math.log(prior / (1 - prior))
    predict.bias.set_data(ms.Tensor(bias.reshape(-1).astype(np.float32)))
