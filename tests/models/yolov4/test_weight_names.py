"""Names and order of the tensors of YOLOv4 in files of other programs."""

import struct

import numpy as np
import pytest
from mindspore import Tensor

from msdet.checkpoints.weights_file import load_weights
from msdet.config import load_config
from msdet.errors import run_command
from msdet.importers.command import main as import_main
from msdet.models.recipe import get_recipe
from msdet.models.yolov4.weight_names import SOURCES
from msdet.training.initial_weights import load_backbone

pytestmark = pytest.mark.usefixtures("graph_mode")

CONFIG = "configs/yolov4.yaml"


def test_conv_137_fills_the_backbone(tmp_path, capsys):
    """yolov4.conv.137 holds the first 137 layers of the cfg; 92 are convolutions, 72 of them of the backbone."""
    narrow = ["--num_classes", "2", "--backbone_shape", "4,4,4,4,4,8"]
    network = get_recipe(load_config(CONFIG, narrow)).build_network()
    rng = np.random.default_rng(0)
    with (tmp_path / "yolov4.conv.137").open("wb") as file:
        file.write(struct.pack("<iiiq", 0, 2, 5, 0))
        for layer in SOURCES[0].layers(network)[:92]:
            bn = layer.bn
            for p in (bn.beta, bn.gamma, bn.moving_mean, bn.moving_variance, layer.conv.weight):
                p.set_data(Tensor(rng.standard_normal(p.shape).astype(np.float32)))
                file.write(p.asnumpy().tobytes())
    command = ["--config", CONFIG, "--source", str(tmp_path / "yolov4.conv.137"), *narrow, "--output"]
    assert run_command(import_main, [*command, str(tmp_path / "whole.ckpt")]) == 1
    assert "--partial backbone" in capsys.readouterr().err
    assert run_command(import_main, [*command, str(tmp_path / "b.ckpt"), "--partial", "backbone"]) == 0
    assert "block8.trunk.4" in capsys.readouterr().out, "the layers after the backbone are reported"
    tensors, card = load_weights(tmp_path / "b.ckpt")
    assert card["part"] == "backbone"
    own = {p.name: p.asnumpy() for p in network.backbone.get_parameters()}
    assert tensors.keys() == own.keys()
    assert all(np.array_equal(tensors[name], value) for name, value in own.items())
    # The result can be used with --pretrained_backbone.
    fresh = get_recipe(load_config(CONFIG, narrow)).build_network()
    load_backbone(fresh, tmp_path / "b.ckpt")
    assert all(np.array_equal(p.asnumpy(), own[p.name]) for p in fresh.backbone.get_parameters())
