"""YOLOv4: spatial pyramid and path aggregation on CSPDarkNet53 (Bochkovskiy et al., 2020)."""

from __future__ import annotations

from typing import Unpack

import mindspore as ms
from mindspore import nn, ops

from msdet.layers.conv import Concat, ConvBnAct, ConvOptions, UpsampleNearest2x
from msdet.models.yolo.decoder import ANCHORS_PER_SCALE
from msdet.models.yolo.head import DetectionBlock, alternating_convolutions


class SpatialPyramid(nn.Cell):
    """Max pooling with windows of 13, 9, 5 and 1 px between convolutions: (N, in, h, w) -> (N, width, h, w).

    The windows are cropped at the border (He et al., Spatial Pyramid Pooling, 2014, as used in YOLOv3-SPP).

    Args:
        in_channels: of the input.
        width: channels of the output.
        conv: see `ConvBnAct`.
    """

    def __init__(self, in_channels: int, width: int, **conv: Unpack[ConvOptions]) -> None:
        super().__init__()
        self.before = alternating_convolutions(in_channels, width, 3, **conv)
        self.pool13, self.pool9, self.pool5 = (nn.MaxPool2d(size, 1, pad_mode="same") for size in (13, 9, 5))
        self.after = alternating_convolutions(4 * width, width, 3, **conv)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        x = self.before(x)
        return self.after(ops.concat((self.pool13(x), self.pool9(x), self.pool5(x), x), 1))


class YoloV4(nn.Cell):
    """Images (N, 3, H, W), float32, H and W multiples of 32 -> raw maps of strides 32, 16, 8.

    Each raw map is (N, 3 * (5 + num_classes), h, w), channels anchor-major: tx, ty, tw, th, objectness, classes.

    Args:
        backbone: a cell that returns maps of strides 8, 16, 32, with their channels in `out_channels`.
        num_classes: object classes.
        objectness_prior, class_prior: see `DetectionBlock`.
        conv: padding, bn_momentum and bn_eps of the `ConvBnAct` outside the backbone; their activation is leaky.
    """

    def __init__(
        self,
        backbone: nn.Cell,
        num_classes: int,
        objectness_prior: float = 0.5,
        class_prior: float = 0.5,
        **conv: Unpack[ConvOptions],
    ) -> None:
        super().__init__()
        channels8, channels16, channels32 = backbone.out_channels
        head = (ANCHORS_PER_SCALE * (5 + num_classes), objectness_prior, class_prior)
        self.upsample = UpsampleNearest2x()
        self.join16, self.join8, self.rejoin16, self.rejoin32 = Concat(), Concat(), Concat(), Concat()
        # In the order of darknet's weights files.
        self.backbone = backbone
        self.pyramid = SpatialPyramid(channels32, channels32 // 2, **conv)
        self.up16 = ConvBnAct(channels32 // 2, channels16 // 2, 1, **conv)
        self.tap16 = ConvBnAct(channels16, channels16 // 2, 1, **conv)
        self.merge16 = alternating_convolutions(channels16, channels16 // 2, 5, **conv)
        self.up8 = ConvBnAct(channels16 // 2, channels8 // 2, 1, **conv)
        self.tap8 = ConvBnAct(channels8, channels8 // 2, 1, **conv)
        self.block8 = DetectionBlock(channels8, channels8 // 2, *head, **conv)
        self.down16 = ConvBnAct(channels8 // 2, channels16 // 2, 3, stride=2, **conv)
        self.block16 = DetectionBlock(channels16, channels16 // 2, *head, **conv)
        self.down32 = ConvBnAct(channels16 // 2, channels32 // 2, 3, stride=2, **conv)
        self.block32 = DetectionBlock(channels32, channels32 // 2, *head, **conv)

    def construct(self, images: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        stride8, stride16, stride32 = self.backbone(images)
        top = self.pyramid(stride32)
        # From coarse maps to fine ones ...
        middle = self.merge16(self.join16(self.tap16(stride16), self.upsample(self.up16(top))))
        fine, raw8 = self.block8(self.join8(self.tap8(stride8), self.upsample(self.up8(middle))))
        # ... and back.
        middle, raw16 = self.block16(self.rejoin16(self.down16(fine), middle))
        # Not unpacked: for an unused map the compiler warns of a side effect that is lost "by mistake".
        raw32 = self.block32(self.rejoin32(self.down32(middle), top))[1]
        return raw32, raw16, raw8
