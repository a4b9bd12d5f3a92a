"""The network of EfficientDet: number of parameters, parity, slow references of its layers, exports."""

import numpy as np
import pytest
from mindspore import Tensor, nn

from msdet.checkpoints.card import apply_card
from msdet.checkpoints.weights_file import fill_network
from msdet.config import load_config
from msdet.models.efficientdet_d0.anchors import EfficientDetDecoder, make_anchors
from msdet.models.recipe import get_recipe
from msdet.ops.boxes import cxcywh_to_xyxy
from msdet.training.initial_weights import freeze_batch_norm
from tests.models.efficientdet_d0.networks import BY_NAME, filled, imported, tiny

pytestmark = pytest.mark.usefixtures("graph_mode")


def deviation(ours, reference):
    return float(np.linalg.norm(ours - reference) / np.linalg.norm(reference))


def network_of(tensors, card, tmp_path):
    path = tmp_path / "out.ckpt"
    cfg = apply_card(load_config("configs/efficientdet_d0_seed.yaml"), card, path, with_classes=True)
    network = get_recipe(cfg).build_network()
    fill_network(network, tensors, path)
    return network.set_train(False), cfg


@pytest.mark.parametrize(("file", "layout"), [("efficientdet_d0", "zylo117"), ("zoo_efficientdet_d0", "zoo")])
def test_parity(uncompiled, parity, parity_dir, tmp_path, monkeypatch, file, layout):
    npz = parity_dir / f"{file}.npz"
    reference = np.load(npz)
    state = (parity.zoo_state_dict if layout == "zoo" else parity.torch_state_dict)(npz)
    tensors, card, mapped = imported(state, BY_NAME[layout].file_format, tmp_path, monkeypatch)
    assert (card["source"]["layout"], card["label_map"], len(card["class_names"])) == (layout, "coco_id_minus_1", 80)
    network, cfg = network_of(tensors, card, tmp_path)
    assert sum(p.size for p in network.trainable_params()) == 3_880_067
    assert cfg.pool_padding == ("zero" if layout == "zylo117" else "ignore")
    assert all("backbone_net.model." in name for name in mapped.skipped)
    assert (len(mapped.skipped) > 0) == (layout == "zoo")
    raw = network(Tensor(parity.efficientdet_input()))
    boxes, scores = (tensor.asnumpy()[0] for tensor in EfficientDetDecoder()(raw, (512, 512)))
    assert boxes.shape == (49_104, 4) and scores.shape == (49_104, 90)
    rows = reference["rows"]
    assert deviation(raw[0].asnumpy()[0, rows], reference["regression"]) <= 1e-3
    assert deviation(scores[rows], reference["classification"]) <= 1e-3
    if "boxes_xyxy" in reference:
        assert deviation(boxes[rows], reference["boxes_xyxy"]) <= 1e-3
        anchors = cxcywh_to_xyxy(make_anchors(512, 512)[rows])
        assert deviation(anchors[:, [1, 0, 3, 2]], reference["anchors_yxyx"]) <= 1e-6


def test_golden_values(uncompiled, golden_dir):
    """64 values of each raw map, compared with tests/golden to detect changes of the network."""
    network, image = filled(tiny())
    maps = [m.asnumpy().ravel() for m in network(Tensor(image))]
    values = np.stack([np.resize(m[:: max(1, len(m) // 64)], 64) for m in maps])
    expected = np.load(golden_dir / "efficientdet_d0_tiny.npy")
    np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_training_computes_the_same_function(uncompiled):
    """Several layers use other operators in training; with frozen statistics the raw maps are the same."""
    network, image = filled(tiny())
    expected = [m.asnumpy() for m in network(Tensor(image))]
    freeze_batch_norm(network.set_train())
    assert network.backbone.blocks[0].excite.training
    for ours, evaluated in zip(network(Tensor(image)), expected, strict=True):
        assert deviation(ours.asnumpy(), evaluated) <= 1e-5


@pytest.mark.parametrize("size", [(128, 128), (128, 256)])
def test_shapes_of_any_input(uncompiled, size):
    network = tiny()
    count = len(make_anchors(*size))
    raw = network(Tensor(np.zeros((2, 3, *size), np.float32)))
    assert [m.shape for m in raw] == [(2, count, 4), (2, count, 3)]
    boxes, scores = EfficientDetDecoder()(raw, size)
    assert boxes.shape == (2, count, 4) and scores.shape == (2, count, 3)
    assert np.isfinite(boxes.asnumpy()).all()
    # The class priors of an untrained network are low.
    assert scores.asnumpy().max() < 0.1


def test_exports_to_mindir_and_onnx(check_exports):
    smallest = ("--backbone_layers", "1,1,1,1,1,1,1", "--pyramid_repeats", "1", "--pool_padding", "zero")
    network, image = filled(tiny(*smallest))

    class Detector(nn.Cell):
        def __init__(self):
            super().__init__()
            self.network = network
            self.decoder = EfficientDetDecoder()

        def construct(self, x):
            raw = self.network(x)
            return *raw, *self.decoder(raw, (128, 128))

    def compare(theirs, ours):
        assert deviation(theirs, ours) <= 1e-4

    check_exports(Detector().set_train(False), [image], compare)
