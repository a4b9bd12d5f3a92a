"""Narrow networks of EfficientDet, random weights, and imports of state dicts, for several test files."""

import mindspore as ms
import numpy as np
from mindspore import Tensor

from msdet.checkpoints.weights_file import load_weights, save_tensors
from msdet.config import load_config
from msdet.importers.importer import import_weights
from msdet.models.efficientdet_d0.weight_names import SOURCES
from msdet.models.recipe import get_recipe

CONFIG = "configs/efficientdet_d0.yaml"


TINY = ["--backbone_shape", "8,4,4,8,8,8,8,16", "--backbone_layers", "1,2,1,1,1,2,1", "--pyramid_channels", "8",
        "--pyramid_repeats", "2", "--head_repeats", "1", "--label_map", "dense", "--num_classes", "3"]  # fmt: skip


BY_NAME = {source.name: source for source in SOURCES}


def tiny(*flags):
    ms.set_seed(0)
    return get_recipe(load_config(CONFIG, [*TINY, *flags])).build_network().set_train(False)


def filled(network):
    rng = np.random.default_rng(0)
    for p in network.get_parameters():
        value = rng.standard_normal(p.shape) * (0.3 if p.name.endswith("weight") else 0.1)
        if p.name.endswith(("gamma", "moving_variance", "fusion")):
            value = 1 + np.abs(value)
        p.set_data(Tensor(value.astype(np.float32)))
    return network, rng.standard_normal((1, 3, 128, 128)).astype(np.float32)


def save_as(file_format, state, path, monkeypatch):
    """Makes the importer read these tensors from a file."""
    if file_format == "mindspore":
        save_tensors(path.with_suffix(".ckpt"), state)
        return path.with_suffix(".ckpt")
    path = path.with_suffix(".pth")
    path.write_bytes(b"PK stands for a PyTorch file")
    monkeypatch.setattr("msdet.importers.importer.read_torch", lambda *_: state)
    return path


def imported(state, file_format, tmp_path, monkeypatch, partial="", flags=()):
    source = save_as(file_format, state, tmp_path / "source", monkeypatch)
    mapped = import_weights(load_config(CONFIG, [*flags]), source, tmp_path / "out.ckpt", partial=partial)
    tensors, card = load_weights(tmp_path / "out.ckpt")
    return tensors, card, mapped
