"""The classifiers: number of parameters, parity, a numpy reference, exports, weights of other programs."""

import numpy as np
import pytest
from mindspore import Tensor, nn

from msdet.checkpoints.weights_file import save_tensors
from msdet.config import load_config
from msdet.models.darknet53.loss import Probabilities
from msdet.models.darknet53.network import BACKBONES
from msdet.models.darknet53.weight_names import convolutions
from msdet.models.recipe import get_recipe
from tests.models.darknet53.networks import CONFIGS, TINY, imported, random_images, tiny

pytestmark = pytest.mark.usefixtures("graph_mode")


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
    # The classes of darknet are not in the order of sorted folders and must not get the names of these.
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
    """Reference in float64: convolution by loops over the kernel, batch norm with running statistics, Mish."""
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
    """CSPDarkNet53 as in its paper: two branches, one of which passes through the residual units."""
    x = conv_numpy(x, network.backbone.stem)
    for stage in network.backbone.stages:
        x = conv_numpy(x, stage.downsample)
        left, right = conv_numpy(x, stage.shortcut), conv_numpy(x, stage.main)
        for unit in stage.units:
            right = right + conv_numpy(conv_numpy(right, unit.reduce), unit.expand)
        x = conv_numpy(np.concatenate((conv_numpy(right, stage.after), left), 1), stage.merge)
    return x.mean((2, 3)) @ network.fc.weight.asnumpy().T.astype(np.float64) + network.fc.bias.asnumpy()


def test_cspdarknet53_against_numpy():
    network, images = tiny("cspdarknet53"), random_images()
    expected = csp_numpy(images.astype(np.float64), network)
    np.testing.assert_allclose(network(Tensor(images)).asnumpy(), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def golden_values(model):
    """Ten logits of two images, compared with tests/golden to detect changes of the network."""
    return tiny(model)(Tensor(random_images())).asnumpy()


@pytest.mark.parametrize("model", BACKBONES)
def test_golden_values(uncompiled, golden_dir, model):
    expected = np.load(golden_dir / f"{model}_classifier_tiny.npy")
    np.testing.assert_allclose(golden_values(model), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


class Whole(nn.Cell):
    """Network and decoder, as in an exported file."""

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

    check_exports(Whole(tiny(model)).set_train(False), [random_images()], compare)


def test_the_momentum_of_batch_norm():
    """0.9 of the statistics are kept; with 0.1, as in the old zoo, they were almost those of the last batch."""
    cfg = load_config(CONFIGS["darknet53"], TINY)
    stem = get_recipe(cfg).build_network().backbone.stem.set_train()
    images = Tensor(random_images() + 3)
    batch = stem.conv(images).asnumpy().mean((0, 2, 3))
    stem(images)
    np.testing.assert_allclose(stem.bn.moving_mean.asnumpy(), 0.1 * batch, rtol=1e-4, atol=1e-5)
