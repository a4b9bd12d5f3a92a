"""Names and order of the tensors of the classifiers in files of darknet and of the old zoo."""

import struct

import numpy as np
import pytest

from msdet.checkpoints.weights_file import load_weights, save_tensors, tensors_of
from msdet.errors import run_command
from msdet.importers.command import main as import_main
from msdet.models.darknet53.network import BACKBONES, Classifier, CspDarkNet53
from msdet.models.darknet53.weight_names import classifier_sources, convolutions
from tests.models.darknet53.networks import CHANNELS, CONFIGS, LAYERS, TINY, imported, tiny

pytestmark = pytest.mark.usefixtures("graph_mode")


def darknet_bytes(layers):
    """Content of a .weights file with these layers."""
    parts = [struct.pack("<iiiq", 0, 2, 5, 0)]
    for layer in layers:
        bn = getattr(layer, "bn", None)
        values = (bn.beta, bn.gamma, bn.moving_mean, bn.moving_variance, layer.conv.weight) if bn else (
            layer.bias, layer.weight)  # fmt: skip
        parts += [value.asnumpy().tobytes() for value in values]
    return b"".join(parts)


def csp_darknet_order(network):
    """In the order of csdarknet53.cfg; in a stage: downsampling, both branches, residual units, the two 1x1 layers."""
    yield network.backbone.stem
    for stage in network.backbone.stages:
        yield from (stage.downsample, stage.shortcut, stage.main)
        for unit in stage.units:
            yield from (unit.reduce, unit.expand)
        yield from (stage.after, stage.merge)
    yield network.fc


def test_the_order_of_csdarknet53(tmp_path):
    network = tiny("cspdarknet53")
    (tmp_path / "a.weights").write_bytes(darknet_bytes(csp_darknet_order(network)))
    read, card = imported(CONFIGS["cspdarknet53"], tmp_path, tmp_path / "a.weights", *TINY)
    for name, value in tensors_of(network).items():
        np.testing.assert_array_equal(tensors_of(read)[name], value, err_msg=name)
    assert card["class_names"][4] == "darknet class 4" and card["network"]["activation"] == "mish"


@pytest.mark.parametrize("model", BACKBONES)
def test_only_the_backbone(tmp_path, monkeypatch, model):
    """darknet53.conv.74 and its like: the file ends after the backbone."""
    whole = classifier_sources(model, "stretch", (), 5)[0]
    narrow = type(whole)(whole.name, whole.layers, whole.settings, BACKBONE_CONVOLUTIONS[model])
    monkeypatch.setattr("msdet.models.darknet53.recipe.classifier_sources", lambda *_: [narrow])
    network = tiny(model)
    layers = convolutions(network)
    assert len(layers) == BACKBONE_CONVOLUTIONS[model] + 1
    (tmp_path / "a.conv").write_bytes(darknet_bytes(layers[:-1]))
    output = tmp_path / "out.ckpt"
    command = ["--config", CONFIGS[model], *TINY, "--source", str(tmp_path / "a.conv"), "--output", str(output)]
    assert run_command(import_main, command) == 1, "the last layer is missing"
    assert run_command(import_main, [*command, "--partial", "backbone"]) == 0
    tensors, _ = load_weights(output)
    assert tensors.keys() == {name for name in tensors_of(network) if name.startswith("backbone.")}
    for name, value in tensors.items():
        np.testing.assert_array_equal(tensors_of(network)[name], value, err_msg=name)


@pytest.mark.parametrize("model", BACKBONES)
def test_names_of_the_old_zoo(tmp_path, model):
    """Every tensor has a name there. Those of CSPDarkNet53 follow the public source, without a file to verify them."""
    network = tiny(model)
    names = classifier_sources(model, "stretch", (), 5)[1].names(network)
    own = tensors_of(network)
    assert sorted(names.values()) == sorted(own)
    dense = "fc.weight" if model == "darknet53" else "head.fc.weight"
    assert names[dense] == "fc.weight"
    save_tensors(tmp_path / "zoo.ckpt", {name: own[target] for name, target in names.items()})
    read, card = imported(CONFIGS[model], tmp_path, tmp_path / "zoo.ckpt", *TINY)
    for name, value in own.items():
        np.testing.assert_array_equal(tensors_of(read)[name], value, err_msg=name)
    assert card["network"]["activation"] == {"darknet53": "relu", "cspdarknet53": "mish_tanh"}[model]
    assert card["preprocess"]["resize"] == {"darknet53": "shortest_side", "cspdarknet53": "stretch"}[model]


def test_names_of_the_zoos_cspdarknet53():
    """Names of some of the 72 convolutions, taken from the source code."""
    names = classifier_sources("cspdarknet53", "stretch", (), 5)[1].names(Classifier(CspDarkNet53(CHANNELS, LAYERS), 5))
    assert names["backbone.conv1.0.weight"] == "backbone.stages.0.downsample.conv.weight"
    assert names["backbone.conv2.0.weight"] == "backbone.stages.0.main.conv.weight"
    assert names["backbone.conv3.1.gamma"] == "backbone.stages.0.units.0.reduce.bn.gamma"
    assert names["backbone.conv6.0.weight"] == "backbone.stages.0.shortcut.conv.weight"
    assert names["backbone.conv11.0.weight"] == "backbone.stages.1.shortcut.conv.weight"
    assert names["backbone.layer2.1.conv2.1.beta"] == "backbone.stages.1.units.1.expand.bn.beta"
    assert names["backbone.conv27.0.weight"] == "backbone.stages.4.merge.conv.weight"


BACKBONE_CONVOLUTIONS = {"darknet53": 18, "cspdarknet53": 38}
