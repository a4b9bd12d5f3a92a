"""VGG16 (Simonyan & Zisserman, 2015) as SSD reduces it, and ResNet101 (He et al., 2016): maps of strides 8, 16, 32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import mindspore as ms
from mindspore import nn, ops

from msdet.layers.conv import NormOptions
from msdet.models.refinedet.layers import Conv, init_he

VGG16_CHANNELS = (64, 128, 256, 512, 512, 1024)
VGG16_LAYERS = (2, 2, 3, 3, 3)
RESNET101_CHANNELS = (64, 64, 128, 256, 512)
RESNET101_LAYERS = (3, 4, 23, 3)
_EXPANSION = 4


class Vgg16(nn.Cell):
    """Images (N, 3, H, W) -> conv4_3 (stride 8), conv5_3 (stride 16), fc7 (stride 32), each after its ReLU.

    fc6 and fc7 are convolutions: fc6 3x3 with dilation 3 after a pool of stride 2 (Liu et al., SSD, 2016, section 3).

    Args:
        channels: of the five stages, then of fc6 and fc7.
        layers: convolutions of the five stages.

    Attributes:
        out_channels: of the three maps.
    """

    def __init__(self, channels: Sequence[int] = VGG16_CHANNELS, layers: Sequence[int] = VGG16_LAYERS) -> None:
        super().__init__()
        *widths, dense = channels
        self.stages = nn.CellList(
            [
                nn.SequentialCell([Conv(before if i == 0 else width, width, 3) for i in range(count)])
                for before, width, count in zip((3, *widths), widths, layers, strict=False)
            ]
        )
        self.fc6 = Conv(widths[-1], dense, 3, dilation=3)
        self.fc7 = Conv(dense, dense, 1)
        self.pool = nn.MaxPool2d(2, 2)
        self.out_channels = (widths[3], widths[4], dense)

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        for i in range(3):
            x = self.pool(self.stages[i](x))
        conv4_3 = self.stages[3](x)
        conv5_3 = self.stages[4](self.pool(conv4_3))
        return conv4_3, conv5_3, self.fc7(self.fc6(self.pool(conv5_3)))


class Bottleneck(nn.Cell):
    """1x1, 3x3 with the stride, 1x1 to `out_channels`, plus the input: (N, C, H, W) -> (N, out, H / s, W / s).

    The 3x3 convolution has the stride, as in torchvision, whose weights are used (in He et al. the first one has it).

    Args:
        in_channels, width, out_channels: channels of the input, between the convolutions, and of the output.
        stride: s.
        norm: bn_momentum and bn_eps.
    """

    def __init__(
        self, in_channels: int, width: int, out_channels: int, stride: int = 1, **norm: Unpack[NormOptions]
    ) -> None:
        super().__init__()
        self.reduce = Conv(in_channels, width, 1, has_norm=True, **norm)
        self.middle = Conv(width, width, 3, stride, has_norm=True, **norm)
        self.expand = Conv(width, out_channels, 1, has_relu=False, has_norm=True, **norm)
        self.is_projected = stride != 1 or in_channels != out_channels
        if self.is_projected:
            self.project = Conv(in_channels, out_channels, 1, stride, has_relu=False, has_norm=True, **norm)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        branch = self.expand(self.middle(self.reduce(x)))
        return ops.relu(branch + (self.project(x) if self.is_projected else x))


class ResNet101(nn.Cell):
    """Images (N, 3, H, W) -> maps of strides 8, 16 and 32, the outputs of the last three stages.

    Args:
        channels: of the stem, then width of the blocks of the four stages, whose outputs have four times as many.
        layers: blocks of the four stages.
        norm: bn_momentum and bn_eps.

    Attributes:
        out_channels: of the three maps.
    """

    def __init__(
        self,
        channels: Sequence[int] = RESNET101_CHANNELS,
        layers: Sequence[int] = RESNET101_LAYERS,
        **norm: Unpack[NormOptions],
    ) -> None:
        super().__init__()
        stem, *widths = channels
        self.stem = nn.Conv2d(3, stem, 7, 2, pad_mode="pad", padding=3)
        init_he(self.stem)
        self.stem_bn = nn.BatchNorm2d(stem, eps=norm.get("bn_eps", 1e-5), momentum=norm.get("bn_momentum", 0.9))
        # Padding with zeros at the top and left is neutral, since no value after a ReLU is smaller; at an even size no
        # window extends beyond the bottom or right.
        self.pad = ops.Pad(((0, 0), (0, 0), (1, 0), (1, 0)))
        self.pool = nn.MaxPool2d(3, 2)
        stages = []
        in_channels = stem
        for number, (width, count) in enumerate(zip(widths, layers, strict=True)):
            blocks = []
            for i in range(count):
                stride = 2 if i == 0 and number > 0 else 1
                blocks.append(Bottleneck(in_channels, width, _EXPANSION * width, stride, **norm))
                in_channels = _EXPANSION * width
            stages.append(nn.SequentialCell(blocks))
        self.stages = nn.CellList(stages)
        self.out_channels = tuple(_EXPANSION * width for width in widths[1:])

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        x = self.pool(self.pad(ops.relu(self.stem_bn(self.stem(x)))))
        fine = self.stages[1](self.stages[0](x))
        middle = self.stages[2](fine)
        return fine, middle, self.stages[3](middle)
