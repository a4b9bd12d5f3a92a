"""MindSpore Hub's entry: create_network(name) builds the network of any model.

from mindspore_hub_conf import create_network

network = create_network("yolov4_cspdarknet53", num_classes=20)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msdet.errors import UsageError

if TYPE_CHECKING:
    from mindspore import nn

_CONFIGS = Path(__file__).resolve().parent / "configs"

# The names that the old model zoo had at the hub -> config. Every config's own name works too.
_HUB_NAMES = {
    "yolov3_darknet53_quant": "yolov3_quant",
    "yolov4_cspdarknet53": "yolov4",
    "yolov4_shape416": "yolov4",
    "EfficientDet_d0": "efficientdet_d0",
    "refinedet": "refinedet_vgg16_320",
    "darknet53": "darknet53_imagenet",
    "cspdarknet53": "cspdarknet53_imagenet",
}


def create_network(name: str, **keys: object) -> nn.Cell:
    """Builds a network with weights as they are drawn; fill it with mindspore.load_param_into_net.

    Args:
        name: of a file in configs/, or as the old model zoo called it at the hub.
        keys: configuration keys to change, e.g. `num_classes=20`.

    Raises:
        UsageError: there is no such model or key, or its number of classes is open.
    """
    from msdet.config import load_config
    from msdet.models.recipe import get_recipe

    stem = name if (_CONFIGS / f"{name}.yaml").is_file() else _HUB_NAMES.get(name, name)
    path = _CONFIGS / f"{stem}.yaml"
    if not path.is_file():
        have = ", ".join(sorted({*_HUB_NAMES, *(file.stem for file in _CONFIGS.glob("*.yaml"))}))
        raise UsageError(f"there is no network {name!r}; there are {have}")
    cfg = load_config(path).replace(**keys)
    if not cfg.num_classes:
        raise UsageError(f"the number of classes of {name} is open: create_network({name!r}, num_classes=N)")
    return get_recipe(cfg).build_network()
