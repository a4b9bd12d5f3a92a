"""A tiny YOLOv3 with random weights, and its darknet file, for tests of imports."""

import struct

import mindspore as ms
import numpy as np
from mindspore import Tensor

from msdet.config import load_config
from msdet.errors import run_command
from msdet.importers.command import main
from msdet.models.recipe import get_recipe
from msdet.models.yolov3_quant.weight_names import _darknet_layers

CONFIG = "configs/yolov3.yaml"


TINY = ["--num_classes", "2", "--backbone_shape", "4,4,4,8,8,16", "--backbone_layers", "1,1,1,1,1"]


def tiny_network():
    ms.set_seed(3)
    network = get_recipe(load_config(CONFIG, TINY)).build_network()
    for p in network.get_parameters():
        p.set_data(Tensor(np.random.default_rng(p.size).uniform(0.5, 1, p.shape).astype(np.float32)))
    return network


def darknet_bytes(network, minor=2, layers=None):
    header = struct.pack("<iiiq", 0, minor, 5, 77) if minor >= 2 else struct.pack("<iiii", 0, minor, 0, 77)
    parts = [header]
    for layer in list(_darknet_layers(network))[:layers]:
        if hasattr(layer, "bn"):
            bn = layer.bn
            values = (bn.beta, bn.gamma, bn.moving_mean, bn.moving_variance, layer.conv.weight)
        else:
            values = (layer.bias, layer.weight)
        parts += [value.asnumpy().tobytes() for value in values]
    return b"".join(parts)


def run(tmp_path, source, *flags):
    """Exit code of the command with a tiny network."""
    return run_command(
        main, ["--config", CONFIG, *TINY, "--source", str(source), "--output", str(tmp_path / "out.ckpt"), *flags]
    )
