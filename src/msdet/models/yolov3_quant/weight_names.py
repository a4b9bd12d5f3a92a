"""Names and order of the tensors of YOLOv3 in files of other programs."""

from __future__ import annotations

from mindspore import nn

from msdet.models.darknet53.weight_names import DARKNET_SETTINGS, convolutions, zoo_conv, zoo_darknet53
from msdet.models.weight_names import DarknetSource, NamedSource
from msdet.models.yolov3_quant.network import YoloV3

_BACKBONE_LAYERS = 52


def _darknet_layers(network: YoloV3) -> list[nn.Cell]:
    """In the order of yolov3.cfg: the backbone, then each head followed by the lateral layer to the next one."""
    parts = [network.backbone, network.block32, network.lateral16, network.block16, network.lateral8, network.block8]
    return [layer for part in parts for layer in convolutions(part)]


def _zoo_names(network: YoloV3) -> dict[str, str]:
    names = dict(zoo_darknet53(network.backbone, "feature_map.backbone."))
    for number, stride in enumerate((32, 16, 8)):
        source, target = f"feature_map.backblock{number}", f"block{stride}"
        for i in range(5):
            names.update(zoo_conv(f"{source}.conv{i}", f"{target}.trunk.{i}"))
        names.update(zoo_conv(f"{source}.conv5", f"{target}.expand"))
        names.update({f"{source}.conv6.{name}": f"{target}.predict.{name}" for name in ("weight", "bias")})
    names.update(zoo_conv("feature_map.conv1", "lateral16"))
    names.update(zoo_conv("feature_map.conv2", "lateral8"))
    return names


SOURCES = (
    DarknetSource(
        "darknet",
        _darknet_layers,
        # The published weights were trained and evaluated on letterboxed images.
        {**DARKNET_SETTINGS, "activation": "leaky", "resize": "letterbox", "interpolation": "linear"},
        _BACKBONE_LAYERS,
    ),
    NamedSource(
        "zoo",
        "mindspore",
        _zoo_names,
        settings={
            "activation": "relu",
            "padding": "same",
            "bn_eps": 1e-5,
            "resize": "stretch",
            "interpolation": "old_zoo",
        },
    ),
)
