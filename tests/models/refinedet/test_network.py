"""The networks of RefineDet: number of parameters, parity, slow references of layers, exports, weights files."""

import numpy as np
import pytest
from mindspore import Tensor, nn

from msdet.checkpoints.card import apply_card
from msdet.checkpoints.weights_file import fill_network
from msdet.config import load_config
from msdet.errors import UserError
from msdet.models.recipe import get_recipe
from msdet.models.refinedet.anchors import RefineDetDecoder, make_anchors
from tests.models.refinedet.networks import RESNET, VGG, filled, imported, tiny_recipe

pytestmark = pytest.mark.usefixtures("graph_mode")


def deviation(ours, reference):
    return float(np.linalg.norm(ours - reference) / np.linalg.norm(reference))


def test_parity(uncompiled, parity, parity_dir, tmp_path, monkeypatch):
    npz = parity_dir / "refinedet_vgg16_320.npz"
    reference = np.load(npz)
    tensors, card = imported(VGG, parity.torch_state_dict(npz), tmp_path, monkeypatch, flags=["--num_classes", "80"])
    assert (card["source"]["layout"], len(card["class_names"]), card["network"]["clip_anchors"]) == ("luuuyi", 80, True)
    recipe = get_recipe(apply_card(load_config(VGG), card, tmp_path / "out.ckpt", with_classes=True))
    network = recipe.build_network().set_train(False)
    fill_network(network, tensors, tmp_path / "out.ckpt")
    assert sum(p.size for p in network.trainable_params()) == 36_100_484
    raw = network(Tensor(parity.refinedet_input()))
    rows = reference["rows"]
    for ours, name in zip(raw, ("arm_loc", "arm_conf", "odm_loc", "odm_conf"), strict=True):
        assert ours.shape[:2] == (1, 6375)
        assert deviation(ours.asnumpy()[0, rows], reference[name]) <= 1e-3
    assert deviation(make_anchors(320, 320, clip=True)[rows] / 320, reference["priors_cxcywh"]) <= 1e-6
    boxes, scores = recipe.build_decoder()(raw, (320, 320))
    assert scores.shape == (1, 6375, 80)
    assert deviation(boxes.asnumpy()[0, rows] / 320, reference["boxes_xyxy"]) <= 1e-3
    # The published weights expect values 0..255 minus the mean colour.
    image = np.full((1, 4, 4, 3), 200, np.uint8)
    normalised = recipe.build_preprocess()(Tensor(image)).asnumpy()[0, :, 0, 0]
    np.testing.assert_allclose(normalised, (200 - 123, 200 - 117, 200 - 104), atol=1e-3)


@pytest.mark.parametrize("config", [VGG, RESNET])
def test_golden_values(golden_dir, config):
    """64 values of each raw map, compared with tests/golden to detect changes of the network."""
    network, image = filled(tiny_recipe(config).build_network())
    maps = [m.asnumpy().ravel() for m in network(Tensor(image))]
    values = np.stack([np.resize(m[:: max(1, len(m) // 64)], 64) for m in maps])
    expected = np.load(golden_dir / f"refinedet_{'vgg16' if config == VGG else 'resnet101'}_tiny.npy")
    np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("config", [VGG, pytest.param(RESNET, marks=pytest.mark.slow)])
def test_exports_to_mindir_and_onnx(check_exports, config):
    network, image = filled(tiny_recipe(config).build_network())

    class Detector(nn.Cell):
        def __init__(self):
            super().__init__()
            self.network = network
            self.decoder = RefineDetDecoder()

        def construct(self, x):
            raw = self.network(x)
            return *raw, *self.decoder(raw, (64, 64))

    def compare(theirs, ours):
        assert deviation(theirs, ours) <= 1e-4

    check_exports(Detector().set_train(False), [image], compare)


@pytest.mark.parametrize("config", [VGG, RESNET])
def test_the_checkpoint_of_the_old_zoo_is_rejected_with_the_reason(tmp_path, monkeypatch, config):
    state = {"arm.multi_loc_layers.0.weight": np.zeros((8, 3, 3, 3), np.float32)}
    with pytest.raises(UserError, match="another network.*anchors"):
        imported(config, state, tmp_path, monkeypatch, flags=["--num_classes", "80"], suffix=".ckpt")
