"""How other programs order and name the tensors of DarkNet53 and CSPDarkNet53."""

from __future__ import annotations

from collections.abc import Iterator

from mindspore import nn

from src.common.layers import ConvBnAct
from src.darknet53.network import DarkNet53

# Preprocessing and layers that darknet's own weights want: RGB in 0..1.
DARKNET_SETTINGS = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "padding": "symmetric", "bn_eps": 1e-5}

_STATISTICS = ("gamma", "beta", "moving_mean", "moving_variance")


def convolutions(cell: nn.Cell) -> list[nn.Cell]:
    """The `ConvBnAct`, and the convolutions and dense layers with bias, in the order in which a network was written;
    for both backbones that is darknet's order."""
    return [
        part
        for _, part in cell.cells_and_names()
        if isinstance(part, ConvBnAct) or (isinstance(part, nn.Conv2d | nn.Dense) and part.has_bias)
    ]


def zoo_conv(source: str, target: str) -> Iterator[tuple[str, str]]:
    """Names of one convolution with batch norm: (in the old model zoo, here)."""
    yield f"{source}.0.weight", f"{target}.conv.weight"
    for name in _STATISTICS:
        yield f"{source}.1.{name}", f"{target}.bn.{name}"


def zoo_darknet53(backbone: DarkNet53, source: str = "", target: str = "backbone.") -> Iterator[tuple[str, str]]:
    """Names of DarkNet53: (in the old model zoo, here).

    Args:
        backbone: tells the number of units of each stage.
        source, target: prefixes of both sides.
    """
    yield from zoo_conv(f"{source}conv0", f"{target}stem")
    for number, stage in enumerate(backbone.stages):
        yield from zoo_conv(f"{source}conv{number + 1}", f"{target}stages.{number}.0")
        for unit in range(1, len(stage)):
            for old, new in (("conv1", "reduce"), ("conv2", "expand")):
                yield from zoo_conv(
                    f"{source}layer{number + 1}.{unit - 1}.{old}", f"{target}stages.{number}.{unit}.{new}"
                )
