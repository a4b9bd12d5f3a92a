"""Entry point of MindSpore Hub: create_network(name) builds the network of any model.

from mindspore_hub_conf import create_network

network = create_network("yolov4_cspdarknet53", num_classes=20)
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

# A checkout uses its own code, whether it is installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from msdet.compat.hub_names import HUB_NAMES
from msdet.config.yaml_file import config_folder
from msdet.errors import UsageError

if TYPE_CHECKING:
    from mindspore import nn


def create_network(name: str, **keys: object) -> nn.Cell:
    """Builds an untrained network; load weights with mindspore.load_param_into_net.

    Args:
        name: a file name in configs/ without suffix, or a hub name of the old model zoo.
        keys: configuration keys to set, e.g. `num_classes=20`.

    Raises:
        UsageError: the model or a key is unknown, or the number of classes is not defined.
    """
    from msdet.config import load_config
    from msdet.models.recipe import get_recipe

    configs = config_folder()
    stem = name if (configs / f"{name}.yaml").is_file() else HUB_NAMES.get(name, name)
    path = configs / f"{stem}.yaml"
    if not path.is_file():
        have = ", ".join(sorted({*HUB_NAMES, *(file.stem for file in configs.glob("*.yaml"))}))
        raise UsageError(f"unknown network {name!r}; known are {have}")
    cfg = load_config(path).replace(**keys)
    if not cfg.num_classes:
        raise UsageError(f"the number of classes of {name} is not defined: use create_network({name!r}, num_classes=N)")
    return get_recipe(cfg).build_network()
