"""How other programs order and name the tensors of YOLOv4."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from mindspore import nn

from msdet.models.darknet53.weight_names import DARKNET_SETTINGS, convolutions, zoo_conv, zoo_cspdarknet53
from msdet.models.weight_names import DarknetSource, NamedSource
from msdet.models.yolov4.network import YoloV4

_BACKBONE_LAYERS = 72


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
