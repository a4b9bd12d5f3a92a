"""Initial weights of a training: `pretrained` with `filter_weight`, and `pretrained_backbone`."""

import logging

import mindspore as ms
import numpy as np
import pytest

from msdet.checkpoints.weights_file import save_weights, tensors_of
from msdet.errors import UserError
from msdet.training.initial_weights import load_backbone, load_initial_weights
from tests.training.tiny_yolov3 import recipe

pytestmark = pytest.mark.usefixtures("graph_mode")


def saved(tmp_path, classes=2, card=True, name="w.ckpt"):
    r = recipe(classes)
    ms.set_seed(7)
    tensors = tensors_of(r.build_network())
    content = {"class_names": [f"class {i}" for i in range(classes)]} if card else {}
    save_weights(tmp_path / name, tensors, content)
    return tmp_path / name, tensors, content


def test_filter_weight_skips_the_class_layers(tmp_path, caplog):
    path, tensors, card = saved(tmp_path, classes=5)
    r = recipe(2, "--filter_weight", "True", "--pretrained", str(path))
    network = r.build_network()
    initial = tensors_of(network)
    with caplog.at_level(logging.INFO):
        load_initial_weights(network, r, tensors, card)
    now = tensors_of(network)
    for name, value in now.items():
        source = initial if ".predict." in name else tensors
        np.testing.assert_array_equal(value, source[name], err_msg=name)
    assert "6 tensors keep their initialization: block32.predict.weight" in caplog.text


def test_other_classes_without_filter_weight_are_refused(tmp_path):
    path, tensors, card = saved(tmp_path, classes=5)
    r = recipe(2, "--pretrained", str(path))
    with pytest.raises(UserError, match="--filter_weight=True"):
        load_initial_weights(r.build_network(), r, tensors, card)
    with pytest.raises(UserError, match="--filter_weight=True"):
        load_initial_weights(r.build_network(), r, tensors, {})


@pytest.mark.parametrize("kind", ["detector", "classifier", "bare"])
def test_a_backbone_is_filled_completely(tmp_path, kind):
    _, tensors, _ = saved(tmp_path)
    backbone = {name: value for name, value in tensors.items() if name.startswith("backbone.")}
    if kind == "classifier":
        backbone["head.fc.weight"] = np.zeros((10, 16), np.float32)
    elif kind == "detector":
        backbone = tensors
    else:
        backbone = {name.removeprefix("backbone."): value for name, value in backbone.items()}
    save_weights(tmp_path / "b.ckpt", backbone, {})
    network = recipe().build_network()
    head = network.block8.predict.weight.asnumpy().copy()
    load_backbone(network, tmp_path / "b.ckpt")
    for name, value in tensors_of(network).items():
        if name.startswith("backbone."):
            np.testing.assert_array_equal(value, tensors[name], err_msg=name)
    np.testing.assert_array_equal(network.block8.predict.weight.asnumpy(), head)


def test_an_incomplete_backbone_is_refused(tmp_path):
    _, tensors, _ = saved(tmp_path)
    del tensors["backbone.stem.conv.weight"]
    save_weights(tmp_path / "b.ckpt", tensors, {})
    with pytest.raises(UserError, match="stem.conv.weight"):
        load_backbone(recipe().build_network(), tmp_path / "b.ckpt")
    save_weights(tmp_path / "c.ckpt", {"x": np.zeros(1, np.float32)}, {})
    with pytest.raises(UserError, match="no backbone of this network"):
        load_backbone(recipe().build_network(), tmp_path / "c.ckpt")
