"""How other programs order and name the tensors of YOLOv4."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from mindspore import nn

from src.darknet53.network import CspDarkNet53
from src.darknet53.weights import DARKNET_SETTINGS, convolutions, zoo_conv
from src.weights.sources import DarknetSource, NamedSource
from src.yolov4.network import YoloV4

_BACKBONE_LAYERS = 72
# The old zoo numbers the convolutions of a stage outside its residual units in this order.
_STAGE = ("downsample", "main", "after", "shortcut", "merge")


def zoo_cspdarknet53(backbone: CspDarkNet53, source: str, target: str = "backbone.") -> Iterator[tuple[str, str]]:
    """Names of CSPDarkNet53: (in the old model zoo, here); prefixes of both sides.

    The one unit of the first stage has no list of its own there: its convolutions are counted with the others.
    """
    yield from zoo_conv(f"{source}conv0", f"{target}stem")
    first = ("downsample", "main", "units.0.reduce", "units.0.expand", "after", "shortcut", "merge")
    number = 1
    for stage in range(len(backbone.stages)):
        for part in first if stage == 0 else _STAGE:
            yield from zoo_conv(f"{source}conv{number}", f"{target}stages.{stage}.{part}")
            number += 1
        for unit in range(len(backbone.stages[stage].units) if stage else 0):
            for old, new in (("conv1", "reduce"), ("conv2", "expand")):
                yield from zoo_conv(
                    f"{source}layer{stage + 1}.{unit}.{old}", f"{target}stages.{stage}.units.{unit}.{new}"
                )


def _zoo_names(network: YoloV4) -> dict[str, str]:
    names = dict(zoo_cspdarknet53(network.backbone, "feature_map.backbone."))
    outside = (
        *(f"pyramid.before.{i}" for i in range(3)), *(f"pyramid.after.{i}" for i in range(3)),
        "up16", "tap16", "up8", "tap8", "down16", "down32",
    )  # fmt: skip
    for number, target in enumerate(outside, 1):
        names.update(zoo_conv(f"feature_map.conv{number}", target))
    for number, target in enumerate(("merge16", "block8.trunk", "block16.trunk", "block32.trunk")):
        for i in range(5):
            names.update(zoo_conv(f"feature_map.backblock{number}.conv{i}", f"{target}.{i}"))
    for number, target in enumerate(("block8", "block16", "block32"), 1):
        source = f"feature_map.backblock{number}"
        names.update(zoo_conv(f"{source}.conv5", f"{target}.expand"))
        names.update({f"{source}.conv6.{name}": f"{target}.predict.{name}" for name in ("weight", "bias")})
    return names


def _halves_swapped(kernel: np.ndarray) -> np.ndarray:
    """The old zoo lays the upsampled map before the backbone's, darknet behind it: (O, I, 1, 1) with I turned round."""
    half = kernel.shape[1] // 2
    return np.concatenate((kernel[:, half:], kernel[:, :half]), axis=1)


_SWAPPED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    f"{layer}.0.conv.weight": _halves_swapped for layer in ("merge16", "block8.trunk")
}


def _darknet_layers(network: YoloV4) -> list[nn.Cell]:
    """As yolov4.cfg lists them, which is the order in which the network was written."""
    return convolutions(network)


SOURCES = (
    DarknetSource(
        "darknet",
        _darknet_layers,
        # The published weights were trained and scored on images that fill the network's input.
        {**DARKNET_SETTINGS, "activation": "mish", "resize": "stretch", "interpolation": "linear"},
        _BACKBONE_LAYERS,
    ),
    NamedSource(
        "zoo",
        "mindspore",
        _zoo_names,
        # A head that the top-down path of the old network has and never uses.
        dead=(r"feature_map\.backblock0\.conv[56]\..*",),
        settings={
            "activation": "mish_tanh",
            "padding": "same",
            "bn_eps": 1e-5,
            "resize": "stretch",
            "interpolation": "old_zoo",
        },
        convert=_SWAPPED,
    ),
)
