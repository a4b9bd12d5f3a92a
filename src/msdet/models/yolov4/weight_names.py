"""Names and order of the tensors of YOLOv4 in files of other programs."""

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


def _swap_halves(kernel: np.ndarray) -> np.ndarray:
    """Swaps the halves of the input channels (O, I, 1, 1): the zoo concatenates the maps in the opposite order."""
    half = kernel.shape[1] // 2
    return np.concatenate((kernel[:, half:], kernel[:, :half]), axis=1)


_SWAPPED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    f"{layer}.0.conv.weight": _swap_halves for layer in ("merge16", "block8.trunk")
}


def _darknet_layers(network: YoloV4) -> list[nn.Cell]:
    """In the order of yolov4.cfg, which is also the order of definition in the network."""
    return convolutions(network)


SOURCES = (
    DarknetSource(
        "darknet",
        _darknet_layers,
        # The published weights were trained and evaluated on images stretched to the input size.
        {**DARKNET_SETTINGS, "activation": "mish", "resize": "stretch", "interpolation": "linear"},
        _BACKBONE_LAYERS,
    ),
    NamedSource(
        "zoo",
        "mindspore",
        _zoo_names,
        # A head in the top-down path of the old network that is never used.
        unused=(r"feature_map\.backblock0\.conv[56]\..*",),
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
