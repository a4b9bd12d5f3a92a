"""A tiny network's checkpoint, and its exports."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from msdet.checkpoints.weights_file import save_weights, tensors_of
from msdet.config import load_config
from msdet.models.recipe import get_recipe

CONFIG = "configs/yolov3.yaml"
FLAGS = ["--backbone_shape=4,4,8,8,8,16", "--backbone_layers=1,1,1,1,1", "--testing_shape=64"]
NAMES = ["cat", "dog"]


@pytest.fixture(autouse=True)
def _graph_mode():
    ms.set_context(mode=ms.GRAPH_MODE)


def make_checkpoint(folder):
    """A YOLOv3 of random weights whose scores lie between 0.2 and 0.6."""
    ms.set_seed(5)
    recipe = get_recipe(load_config(CONFIG, [*FLAGS, "--num_classes=2", "--class_names=cat,dog"]))
    network = recipe.build_network()
    rng = np.random.default_rng(0)
    for p in network.get_parameters():
        if p.name.endswith(".weight"):
            # He's gain: a picture still makes a difference behind all the layers.
            gain = 0.5 if "predict" in p.name else np.sqrt(2 / np.prod(p.shape[1:]))
            p.set_data(Tensor((rng.standard_normal(p.shape) * gain).astype(np.float32)))
        elif p.name.endswith("predict.bias"):
            p.set_data(Tensor(np.zeros(p.shape, np.float32)))
    save_weights(folder / "w.ckpt", tensors_of(network), recipe.card([7, 9]))
    return folder / "w.ckpt"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def exports(checkpoint):
    """The usual two files, as export.py writes them."""
    from export import main

    ms.set_context(mode=ms.GRAPH_MODE)
    for file_format in ("MINDIR", "ONNX"):
        name = ["--file_format", file_format, "--file_name", str(checkpoint.with_name("net"))]
        flags = ["--config", CONFIG, "--num_classes", "0", "--ckpt_file", str(checkpoint), "--testing_shape", "64",
                 "--emulate_float16", "0"]  # fmt: skip
        assert main([*flags, *name]) == 0
    return checkpoint.with_name("net.mindir"), checkpoint.with_name("net.onnx")
