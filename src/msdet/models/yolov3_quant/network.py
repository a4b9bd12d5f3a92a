"""YOLOv3: three detection heads on DarkNet53 (Redmon & Farhadi, 2018)."""

from __future__ import annotations

from typing import Unpack

import mindspore as ms
from mindspore import nn

from msdet.layers.conv import Concat, ConvBnAct, ConvOptions, UpsampleNearest2x
from msdet.models.yolo.decoder import ANCHORS_PER_SCALE
from msdet.models.yolo.head import DetectionBlock


class YoloV3(nn.Cell):
    """Images (N, 3, H, W), float32, H and W multiples of 32 -> raw maps of strides 32, 16, 8.

    Each raw map is (N, 3 * (5 + num_classes), h, w), channels anchor-major: tx, ty, tw, th, objectness, classes.

    Args:
        backbone: a cell that returns maps of strides 8, 16, 32, with their channels in `out_channels`.
        num_classes: object classes.
        objectness_prior: see `DetectionBlock`.
        conv: padding, bn_momentum and bn_eps of the head's `ConvBnAct`; its activation is always leaky.
    """

    def __init__(
        self, backbone: nn.Cell, num_classes: int, objectness_prior: float = 0.5, **conv: Unpack[ConvOptions]
    ) -> None:
        super().__init__()
        channels8, channels16, channels32 = backbone.out_channels
        out = ANCHORS_PER_SCALE * (5 + num_classes)
        self.backbone = backbone
        self.block32 = DetectionBlock(channels32, channels32 // 2, out, objectness_prior, **conv)
        self.lateral16 = ConvBnAct(channels32 // 2, channels16 // 2, 1, **conv)
        self.block16 = DetectionBlock(channels16 + channels16 // 2, channels16 // 2, out, objectness_prior, **conv)
        self.lateral8 = ConvBnAct(channels16 // 2, channels8 // 2, 1, **conv)
        self.block8 = DetectionBlock(channels8 + channels8 // 2, channels8 // 2, out, objectness_prior, **conv)
        self.upsample = UpsampleNearest2x()
        self.concat16, self.concat8 = Concat(), Concat()

    def construct(self, images: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        stride8, stride16, stride32 = self.backbone(images)
        branch, raw32 = self.block32(stride32)
        branch, raw16 = self.block16(self.concat16(self.upsample(self.lateral16(branch)), stride16))
        # Not unpacked: for an unused map the compiler warns of a side effect that is lost "by mistake".
        raw8 = self.block8(self.concat8(self.upsample(self.lateral8(branch)), stride8))[1]
        return raw32, raw16, raw8
