"""mindspore_hub_conf.py: networks by name."""

import numpy as np
import pytest
from mindspore import Tensor

import mindspore_hub_conf as hub
from msdet.compat.hub_names import HUB_NAMES
from msdet.config.model_table import model_table
from msdet.config.yaml_file import config_folder
from msdet.errors import UsageError

NARROW = {"backbone_shape": (4, 8, 8, 16, 16, 16), "backbone_layers": (1, 1, 1, 1, 1)}


def test_a_network_by_the_name_of_its_config():
    network = hub.create_network("yolov3", num_classes=3, **NARROW)
    shapes = [tensor.shape for tensor in network(Tensor(np.zeros((1, 3, 64, 64), np.float32)))]
    assert shapes == [(1, 24, 2, 2), (1, 24, 4, 4), (1, 24, 8, 8)]


@pytest.mark.parametrize(
    ("name", "keys", "fragment"),
    [
        ("yolov5", {}, "unknown network 'yolov5'; known are"),
        ("yolov3", {"num_clases": 3}, "num_clases"),
        ("yolov3_shapes", {}, "num_classes=N"),
    ],
)
def test_invalid_arguments(name, keys, fragment):
    with pytest.raises(UsageError, match=fragment):
        hub.create_network(name, **keys)


def test_every_model_has_a_name():
    """All names of the old zoo map to configs, and every model has a config."""
    configs = {path.stem for path in config_folder().glob("*.yaml")}
    assert set(HUB_NAMES.values()) <= configs
    assert all(any(stem.startswith(model) for stem in configs) for model in model_table())
