"""The classifiers: size, independent implementations, a composition in numpy, exports, weights of other programs."""

import struct

import numpy as np
import pytest
from mindspore import Tensor, nn

from msdet.checkpoints.card import apply_card
from msdet.checkpoints.weights_file import fill_network, load_weights, save_tensors, tensors_of
from msdet.config import load_config
from msdet.errors import run_command
from msdet.importers.command import main as import_main
from msdet.models.darknet53.loss import Probabilities
from msdet.models.darknet53.network import BACKBONES, Classifier, CspDarkNet53
from msdet.models.darknet53.weight_names import classifier_sources, convolutions
from msdet.models.recipe import get_recipe

pytestmark = pytest.mark.usefixtures("graph_mode")

CONFIGS = {name: f"configs/{name}_imagenet.yaml" for name in BACKBONES}
SHAPE, LAYERS = (4, 8, 8, 16, 16, 32), (1, 2, 1, 1, 1)
TINY = ["--backbone_shape", "4,8,8,16,16,32", "--backbone_layers", "1,2,1,1,1", "--num_classes", "5"]
BACKBONE_CONVOLUTIONS = {"darknet53": 18, "cspdarknet53": 38}


def tiny(model):
    """A narrow classifier of five classes whose weights and statistics are all drawn."""
    activation = {"darknet53": "leaky", "cspdarknet53": "mish"}[model]
    network = Classifier(BACKBONES[model](SHAPE, LAYERS, activation=activation), 5)
    rng = np.random.default_rng(1)
    for p in network.get_parameters():
        low, high = (0.5, 1.5) if p.name.endswith(("gamma", "moving_variance")) else (-0.5, 0.5)
        p.set_data(Tensor(rng.uniform(low, high, p.shape).astype(np.float32)))
    return network.set_train(False)


def picture(side=64):
    return np.random.default_rng(2).normal(size=(2, 3, side, side)).astype(np.float32)


def imported(config, tmp_path, source, *flags):
    """The network that the importer makes of a file, and its card."""
    output = tmp_path / "out.ckpt"
    assert import_main(["--config", config, "--source", str(source), "--output", str(output), "--quiet", *flags]) == 0
    tensors, card = load_weights(output)
    network = get_recipe(apply_card(load_config(config), card, output, with_classes=True)).build_network()
    fill_network(network, tensors, output)
    return network.set_train(False), card


@pytest.mark.parametrize(
    ("model", "whole", "backbone"),
    [("darknet53", 41_609_928, 40_584_928), ("cspdarknet53", 27_642_184, 26_617_184)],
)
def test_the_number_of_parameters(model, whole, backbone):
    network = get_recipe(load_config(CONFIGS[model])).build_network()
    assert sum(p.size for p in network.trainable_params()) == whole
    assert sum(p.size for p in network.backbone.trainable_params()) == backbone
    assert len(convolutions(network)) == {"darknet53": 53, "cspdarknet53": 73}[model]


def test_parity_with_darknet(uncompiled, parity, parity_dir, tmp_path):
    npz = parity_dir / "darknet53.npz"
    parity.darknet_weights(npz, tmp_path / "darknet53.weights")
    network, card = imported(CONFIGS["darknet53"], tmp_path, tmp_path / "darknet53.weights")
    expected = np.load(npz)["head0"].reshape(1, -1)
    logits = network(Tensor(parity.darknet_input(npz))).asnumpy()
    assert np.linalg.norm(logits - expected) <= 1e-3 * np.linalg.norm(expected)
    assert card["preprocess"]["mean"] == [0, 0, 0] and card["network"]["activation"] == "leaky"
    # The order of darknet's classes is not that of sorted folders: nothing may take it for that.
    assert card["class_names"][7] == "darknet class 7" and len(card["class_names"]) == 1000


def test_parity_with_the_old_zoo(uncompiled, parity, parity_dir, tmp_path):
    npz = parity_dir / "zoo_darknet53.npz"
    save_tensors(tmp_path / "zoo.ckpt", parity.zoo_state_dict(npz))
    network, card = imported(CONFIGS["darknet53"], tmp_path, tmp_path / "zoo.ckpt")
    expected = np.load(npz)["logits"]
    logits = network(Tensor(parity.zoo_input(npz))).asnumpy()
    assert np.linalg.norm(logits - expected) <= 1e-3 * np.linalg.norm(expected)
    assert (card["network"]["activation"], card["network"]["padding"]) == ("relu", "same")
    assert card["class_names"] == [] and card["preprocess"]["resize_px"] == 292


def conv_numpy(x, cell):
    """Convolution by loops over the kernel, batch norm by its running statistics, Mish by its definition: float64."""
    weight, bn, stride = cell.conv.weight.asnumpy().astype(np.float64), cell.bn, cell.conv.stride[0]
    size = weight.shape[-1]
    padded = np.pad(x, ((0, 0), (0, 0), (size // 2,) * 2, (size // 2,) * 2))
    height, width = x.shape[2] // stride, x.shape[3] // stride
    out = 0
    for i in range(size):
        for j in range(size):
            part = padded[:, :, i : i + height * stride : stride, j : j + width * stride : stride]
            out = out + np.einsum("nchw,oc->nohw", part, weight[:, :, i, j])
    mean, variance, gamma, beta = (
        p.asnumpy().astype(np.float64)[:, None, None] for p in (bn.moving_mean, bn.moving_variance, bn.gamma, bn.beta)
    )
    out = (out - mean) / np.sqrt(variance + bn.eps) * gamma + beta
    return out * np.tanh(np.log1p(np.exp(out)))


def csp_numpy(x, network):
    """CSPDarkNet53 as its paper draws it: two branches, of which one passes the residual units."""
    x = conv_numpy(x, network.backbone.stem)
    for stage in network.backbone.stages:
        x = conv_numpy(x, stage.downsample)
        left, right = conv_numpy(x, stage.shortcut), conv_numpy(x, stage.main)
        for unit in stage.units:
            right = right + conv_numpy(conv_numpy(right, unit.reduce), unit.expand)
        x = conv_numpy(np.concatenate((conv_numpy(right, stage.after), left), 1), stage.merge)
    return x.mean((2, 3)) @ network.fc.weight.asnumpy().T.astype(np.float64) + network.fc.bias.asnumpy()


def test_cspdarknet53_against_numpy():
    network, images = tiny("cspdarknet53"), picture()
    expected = csp_numpy(images.astype(np.float64), network)
    np.testing.assert_allclose(network(Tensor(images)).asnumpy(), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def golden_values(model):
    """The ten logits of two pictures; tests/golden keeps them, so that the network cannot change unnoticed."""
    return tiny(model)(Tensor(picture())).asnumpy()


@pytest.mark.parametrize("model", BACKBONES)
def test_own_values(uncompiled, golden_dir, model):
    expected = np.load(golden_dir / f"{model}_classifier_tiny.npy")
    np.testing.assert_allclose(golden_values(model), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


class Whole(nn.Cell):
    """Network and decoder, as an export has them."""

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network, self.decoder = network, Probabilities()

    def construct(self, x):
        return self.decoder(self.network(x), (64, 64))


@pytest.mark.parametrize("model", BACKBONES)
def test_exports_give_the_same_probabilities(check_exports, model):
    def compare(theirs, ours):
        np.testing.assert_allclose(ours.sum(1), 1, rtol=1e-5)
        np.testing.assert_allclose(theirs, ours, rtol=1e-3, atol=1e-6)

    check_exports(Whole(tiny(model)).set_train(False), [picture()], compare)


def darknet_bytes(layers):
    """A .weights file of these layers."""
    parts = [struct.pack("<iiiq", 0, 2, 5, 0)]
    for layer in layers:
        bn = getattr(layer, "bn", None)
        values = (bn.beta, bn.gamma, bn.moving_mean, bn.moving_variance, layer.conv.weight) if bn else (
            layer.bias, layer.weight)  # fmt: skip
        parts += [value.asnumpy().tobytes() for value in values]
    return b"".join(parts)


def csp_darknet_order(network):
    """As csdarknet53's cfg lists a stage: downsample, the branch that passes by, the other, its units, the two 1x1."""
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
def test_the_backbone_alone(tmp_path, monkeypatch, model):
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
    """Every tensor has one name there; CSPDarkNet53's are those of the public source, without a file to check."""
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
    """The places that its source gives to some of the 72 convolutions."""
    names = classifier_sources("cspdarknet53", "stretch", (), 5)[1].names(Classifier(CspDarkNet53(SHAPE, LAYERS), 5))
    assert names["backbone.conv1.0.weight"] == "backbone.stages.0.downsample.conv.weight"
    assert names["backbone.conv2.0.weight"] == "backbone.stages.0.main.conv.weight"
    assert names["backbone.conv3.1.gamma"] == "backbone.stages.0.units.0.reduce.bn.gamma"
    assert names["backbone.conv6.0.weight"] == "backbone.stages.0.shortcut.conv.weight"
    assert names["backbone.conv11.0.weight"] == "backbone.stages.1.shortcut.conv.weight"
    assert names["backbone.layer2.1.conv2.1.beta"] == "backbone.stages.1.units.1.expand.bn.beta"
    assert names["backbone.conv27.0.weight"] == "backbone.stages.4.merge.conv.weight"


def test_batch_norm_keeps_nine_tenths_of_its_statistics():
    """MindSpore's sense of 0.9; with the old zoo's 0.1 the statistics were almost those of the last batch."""
    cfg = load_config(CONFIGS["darknet53"], TINY)
    stem = get_recipe(cfg).build_network().backbone.stem.set_train()
    images = Tensor(picture() + 3)
    batch = stem.conv(images).asnumpy().mean((0, 2, 3))
    stem(images)
    np.testing.assert_allclose(stem.bn.moving_mean.asnumpy(), 0.1 * batch, rtol=1e-4, atol=1e-5)
