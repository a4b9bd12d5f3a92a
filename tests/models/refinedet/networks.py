"""Narrow networks of RefineDet, random weights, and imports of state dicts, for several test files."""

import mindspore as ms
import numpy as np
from mindspore import Tensor

from msdet.checkpoints.weights_file import load_weights, save_tensors
from msdet.config import load_config
from msdet.importers.importer import import_weights
from msdet.models.recipe import get_recipe

VGG, RESNET = "configs/refinedet_vgg16_320.yaml", "configs/refinedet_resnet101_320.yaml"


TINY = {
    VGG: ["--backbone_shape", "8,8,8,8,8,16", "--backbone_layers", "1,1,1,2,2"],
    RESNET: ["--backbone_shape", "8,8,8,8,8", "--backbone_layers", "1,1,2,1"],
}


SMALL = ["--pyramid_channels", "8", "--num_classes", "3"]


def tiny_recipe(config):
    ms.set_seed(0)
    return get_recipe(load_config(config, [*TINY[config], *SMALL]))


def filled(network):
    rng = np.random.default_rng(0)
    for p in network.get_parameters():
        value = rng.standard_normal(p.shape) * (0.2 if p.name.endswith("weight") else 0.1)
        if p.name.endswith(("gamma", "moving_variance")) or p.name.startswith("norms."):
            value = 1 + np.abs(value)
        p.set_data(Tensor(value.astype(np.float32)))
    return network.set_train(False), rng.standard_normal((1, 3, 64, 64)).astype(np.float32)


def imported(config, state, tmp_path, monkeypatch, partial="", flags=(), suffix=".pth"):
    """Makes the importer read these tensors from a file."""
    source = tmp_path / f"source{suffix}"
    if suffix == ".ckpt":
        save_tensors(source, state)
    else:
        source.write_bytes(b"PK stands for a PyTorch file")
        monkeypatch.setattr("msdet.importers.importer.read_torch", lambda *_: state)
    import_weights(load_config(config, [*flags]), source, tmp_path / "out.ckpt", partial=partial)
    return load_weights(tmp_path / "out.ckpt")
