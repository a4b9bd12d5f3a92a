"""DarkNet53 (Redmon & Farhadi, YOLOv3, 2018, table 1): the backbone of YOLOv3 and an ImageNet classifier."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import nn

from src.common.layers import ConvBnAct

SHAPE = (32, 64, 128, 256, 512, 1024)
LAYERS = (1, 2, 8, 8, 4)


class ResidualUnit(nn.Cell):
    """1x1 to half the channels, 3x3 back, plus the input; no activation after the sum. (N, C, H, W) -> the same
    shape."""

    def __init__(self, channels: int, **conv: object) -> None:
        super().__init__()
        self.reduce = ConvBnAct(channels, channels // 2, 1, **conv)
        self.expand = ConvBnAct(channels // 2, channels, 3, **conv)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return x + self.expand(self.reduce(x))


class DarkNet53(nn.Cell):
    """The 52 convolutions before the classifier: images (N, 3, H, W), H and W multiples of 32, to three maps.

    Args:
        shape: channels of the stem and of the five stages.
        layers: residual units in each stage.
        activation, padding, bn_momentum, bn_eps: see `ConvBnAct`. Darknet's weights need "leaky" and "symmetric";
            those of MindSpore's old model zoo "relu" and "same".

    Returns (from construct): maps of strides 8, 16 and 32, with shape[3], shape[4] and shape[5] channels.
    """

    def __init__(self, shape: Sequence[int] = SHAPE, layers: Sequence[int] = LAYERS, **conv: object) -> None:
        super().__init__()
        self.stem = ConvBnAct(3, shape[0], 3, **conv)
        self.stages = nn.CellList(
            [
                nn.SequentialCell(
                    ConvBnAct(before, after, 3, stride=2, **conv), *[ResidualUnit(after, **conv) for _ in range(units)]
                )
                for before, after, units in zip(shape[:-1], shape[1:], layers, strict=True)
            ]
        )
        self.out_channels = tuple(shape[3:])

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        x = self.stem(x)
        x = self.stages[0](x)
        x = self.stages[1](x)
        stride8 = self.stages[2](x)
        stride16 = self.stages[3](stride8)
        stride32 = self.stages[4](stride16)
        return stride8, stride16, stride32
