"""DarkNet53 (Redmon & Farhadi, YOLOv3, 2018, table 1) and CSPDarkNet53 (Wang et al., CSPNet, 2020; Bochkovskiy et al.,
YOLOv4, 2020): the backbones of YOLOv3 and YOLOv4, and ImageNet classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Unpack

import mindspore as ms
from mindspore import nn
from mindspore.common.initializer import TruncatedNormal, XavierUniform, initializer

from msdet.layers.conv import Add, Concat, ConvActOptions, ConvBnAct, SpatialMean

# Of both networks: channels of the stem and of the five stages; residual units per stage.
CHANNELS = (32, 64, 128, 256, 512, 1024)
LAYERS = (1, 2, 8, 8, 4)


class ResidualUnit(nn.Cell):
    """1x1 convolution to `hidden` channels, 3x3 back, plus the input; no activation after the sum; shape kept."""

    def __init__(self, channels: int, hidden: int, **conv: Unpack[ConvActOptions]) -> None:
        super().__init__()
        self.reduce = ConvBnAct(channels, hidden, 1, **conv)
        self.expand = ConvBnAct(hidden, channels, 3, **conv)
        self.add = Add()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.add(x, self.expand(self.reduce(x)))


class CrossStage(nn.Cell):
    """A stage of CSPDarkNet53: halves the map; then one of two branches passes through the residual units.

    Shape: (N, in, H, W) -> (N, out, H / 2, W / 2).

    Args:
        in_channels, out_channels: of the stage.
        units: number of residual units.
        is_first: the first stage keeps its full width in both branches and halves it within its unit; the others halve
            it in both branches.
        conv: see `ConvBnAct`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, units: int, is_first: bool, **conv: Unpack[ConvActOptions]
    ) -> None:
        super().__init__()
        width = out_channels if is_first else out_channels // 2
        hidden = out_channels // 2
        # In the order of darknet's weights files.
        self.downsample = ConvBnAct(in_channels, out_channels, 3, stride=2, **conv)
        self.shortcut = ConvBnAct(out_channels, width, 1, **conv)
        self.main = ConvBnAct(out_channels, width, 1, **conv)
        self.units = nn.SequentialCell([ResidualUnit(width, hidden, **conv) for _ in range(units)])
        self.after = ConvBnAct(width, width, 1, **conv)
        self.merge = ConvBnAct(2 * width, out_channels, 1, **conv)
        self.concat = Concat()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        x = self.downsample(x)
        processed = self.after(self.units(self.main(x)))
        return self.merge(self.concat(processed, self.shortcut(x)))


def _residual_stage(
    in_channels: int, out_channels: int, units: int, is_first: bool, **conv: Unpack[ConvActOptions]
) -> nn.Cell:
    """A stage of DarkNet53; the first one is not different."""
    del is_first
    return nn.SequentialCell(
        ConvBnAct(in_channels, out_channels, 3, stride=2, **conv),
        *[ResidualUnit(out_channels, out_channels // 2, **conv) for _ in range(units)],
    )


class _DarkNet(nn.Cell):
    """A 3x3 convolution and five stages, each of which halves the map.

    Args:
        channels: of the stem and of the five stages.
        layers: residual units per stage.
        activation, padding, bn_momentum, bn_eps: see `ConvBnAct`.

    Shape: images (N, 3, H, W), H and W multiples of 32 -> maps of strides 8, 16 and 32, with channels[3], channels[4]
    and channels[5] channels.
    """

    stage: ClassVar = staticmethod(_residual_stage)

    def __init__(
        self, channels: Sequence[int] = CHANNELS, layers: Sequence[int] = LAYERS, **conv: Unpack[ConvActOptions]
    ) -> None:
        super().__init__()
        self.stem = ConvBnAct(3, channels[0], 3, **conv)
        self.stages = nn.CellList(
            [
                self.stage(before, after, units, is_first=i == 0, **conv)
                for i, (before, after, units) in enumerate(zip(channels[:-1], channels[1:], layers, strict=True))
            ]
        )
        self.out_channels = tuple(channels[3:])

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        x = self.stem(x)
        x = self.stages[0](x)
        x = self.stages[1](x)
        stride8 = self.stages[2](x)
        stride16 = self.stages[3](stride8)
        stride32 = self.stages[4](stride16)
        return stride8, stride16, stride32


class DarkNet53(_DarkNet):
    """The 52 convolutions of DarkNet53 before its classifier; see `_DarkNet`.

    Weights of darknet need `activation="leaky"` and `padding="symmetric"`, those of the old MindSpore zoo "relu" and
    "same".
    """


class CspDarkNet53(_DarkNet):
    """The 72 convolutions of CSPDarkNet53 before its classifier; see `_DarkNet`.

    Published weights need `activation="mish"`.
    """

    stage: ClassVar = staticmethod(CrossStage)


BACKBONES = {"darknet53": DarkNet53, "cspdarknet53": CspDarkNet53}


class Classifier(nn.Cell):
    """A backbone, global average pooling of its last map, and one dense layer.

    Shape: images (N, 3, H, W), H and W multiples of 32 -> logits (N, num_classes), in the precision of the backbone.

    Args:
        backbone: returns a tuple of maps; the last one is used.
        num_classes: number of outputs.
    """

    def __init__(self, backbone: _DarkNet, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.mean = SpatialMean(keep_dims=False)
        self.fc = nn.Dense(backbone.out_channels[-1], num_classes, TruncatedNormal(0.01), "zeros")

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.fc(self.mean(self.backbone(x)[-1]))


def init_xavier(network: nn.Cell) -> None:
    """Initialises all kernels by Xavier uniform (Glorot & Bengio, 2010), as the published DarkNet53."""
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.Conv2d):
            cell.weight.set_data(initializer(XavierUniform(), cell.weight.shape, cell.weight.dtype))
