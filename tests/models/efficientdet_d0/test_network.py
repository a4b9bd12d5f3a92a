"""EfficientDet's network: its size, independent implementations, slow versions of its layers, exports."""

import hashlib

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, amp, nn, ops

from msdet.checkpoints.card import apply_card
from msdet.checkpoints.weights_file import fill_network, load_weights, save_tensors
from msdet.config import load_config
from msdet.importers.importer import import_weights
from msdet.models.efficientdet_d0.anchors import EfficientDetDecoder, make_anchors
from msdet.models.efficientdet_d0.depthwise import DepthwiseConv
from msdet.models.efficientdet_d0.efficientnet import DropConnect, EfficientNetB0
from msdet.models.efficientdet_d0.layers import HalvingPool
from msdet.models.efficientdet_d0.network import EfficientDet
from msdet.models.efficientdet_d0.weight_names import SOURCES
from msdet.models.recipe import get_recipe
from msdet.ops.boxes import cxcywh_to_xyxy
from msdet.training.start_weights import fill_backbone, freeze_batch_norm

pytestmark = pytest.mark.usefixtures("graph_mode")

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


def deviation(ours, reference):
    return float(np.linalg.norm(ours - reference) / np.linalg.norm(reference))


def save_npz_as(container, state, path, monkeypatch):
    """Lets the importer find these tensors in a file."""
    if container == "mindspore":
        save_tensors(path.with_suffix(".ckpt"), state)
        return path.with_suffix(".ckpt")
    path = path.with_suffix(".pth")
    path.write_bytes(b"PK stands for a PyTorch file")
    monkeypatch.setattr("msdet.importers.importer.read_torch", lambda *_: state)
    return path


def imported(state, container, tmp_path, monkeypatch, partial="", flags=()):
    source = save_npz_as(container, state, tmp_path / "source", monkeypatch)
    mapped = import_weights(load_config(CONFIG, [*flags]), source, tmp_path / "out.ckpt", partial=partial)
    tensors, card = load_weights(tmp_path / "out.ckpt")
    return tensors, card, mapped


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
    tensors, card, mapped = imported(state, BY_NAME[layout].container, tmp_path, monkeypatch)
    assert (card["source"]["layout"], card["label_map"], len(card["class_names"])) == (layout, "coco_id_minus_1", 80)
    network, cfg = network_of(tensors, card, tmp_path)
    assert sum(p.size for p in network.trainable_params()) == 3_880_067
    assert cfg.pool_padding == ("zero" if layout == "zylo117" else "ignore")
    assert all("backbone_net.model." in name for name in mapped.left_out)
    assert (len(mapped.left_out) > 0) == (layout == "zoo")
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


def test_own_values(uncompiled, golden_dir):
    """64 values of each raw map; tests/golden keeps them, so that the network cannot change unnoticed."""
    network, image = filled(tiny())
    maps = [m.asnumpy().ravel() for m in network(Tensor(image))]
    values = np.stack([np.resize(m[:: max(1, len(m) // 64)], 64) for m in maps])
    expected = np.load(golden_dir / "efficientdet_d0_tiny.npy")
    np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_training_computes_the_same_function(uncompiled):
    """Several layers take other operators in training; with the statistics frozen the raw maps are the same."""
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
    # An untrained network takes every class for improbable.
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


@pytest.mark.parametrize("padding", ["ignore", "zero"])
def test_the_pool_at_the_border(padding):
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 8)).astype(np.float32) - 3
    padded = np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=0 if padding == "zero" else -np.inf)
    expected = np.empty((2, 3, 3, 4), np.float32)
    for row, column in np.ndindex(3, 4):
        expected[:, :, row, column] = padded[:, :, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3].max((2, 3))
    np.testing.assert_array_equal(HalvingPool(padding)(Tensor(x)).asnumpy(), expected)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_depthwise_gradients(kernel, stride):
    rng = np.random.default_rng(0)
    fast = DepthwiseConv(4, kernel, stride).set_train()
    assert fast.has_fast_gradient
    plain = nn.Conv2d(4, 4, kernel, stride, pad_mode="same", group=4)
    plain.weight.set_data(fast.weight)
    x = Tensor(rng.standard_normal((3, 4, 8, 12)).astype(np.float32))
    weights = Tensor(rng.standard_normal((3, 4, 8 // stride, 12 // stride)).astype(np.float32))

    def results_of(conv):
        def loss(x):
            return ops.reduce_sum(conv(x) * weights)

        of_x, (of_weight,) = ms.grad(loss, 0, conv.trainable_params())(x)
        return conv(x).asnumpy(), of_x.asnumpy(), of_weight.asnumpy()

    for ours, theirs in zip(results_of(fast), results_of(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_depthwise_gradients_in_half_precision_come_in_float32():
    conv = amp.auto_mixed_precision(nn.SequentialCell(DepthwiseConv(4, 3)).set_train(), "O2")

    def loss(x):
        return ops.reduce_sum(ops.cast(conv(x), ms.float32))

    (gradient,) = ms.grad(loss, None, conv.trainable_params())(Tensor(np.ones((1, 4, 4, 4), np.float32)))
    # How many of the 16 pixels each of the nine weights meets.
    np.testing.assert_array_equal(gradient.asnumpy()[0, 0], [[9, 12, 9], [12, 16, 12], [9, 12, 9]])
    assert gradient.dtype == ms.float32


def test_drop_connect_leaves_out_the_share_it_should():
    x = np.random.default_rng(0).standard_normal((4000, 2, 3, 3)).astype(np.float32)
    layer = DropConnect(0.2).set_train()
    y = layer(Tensor(x)).asnumpy()
    kept = np.abs(y).sum((1, 2, 3)) > 0
    np.testing.assert_allclose(y[kept], x[kept] / 0.8, rtol=1e-5)
    assert abs(kept.mean() - 0.8) < 0.03
    np.testing.assert_array_equal(y, layer(Tensor(x)).asnumpy())
    np.testing.assert_array_equal(layer.set_train(False)(Tensor(x)).asnumpy(), x)


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
@pytest.mark.parametrize(("batch", "level"), [(1, "O0"), (3, "O0"), pytest.param(2, "O3", marks=pytest.mark.slow)])
def test_drop_connect_behind_a_batch_norm(batch, level, mode):
    """Batch norm gives every batch of one image the same means: what is drawn must not depend on them alone."""
    rate, draws = 0.3, 150
    rng = np.random.default_rng(batch)
    ms.set_context(mode=mode)
    norms = [nn.BatchNorm2d(4).set_train() for _ in range(2)]
    layers = [nn.SequentialCell(norm, DropConnect(rate)).set_train() for norm in norms]
    if level != "O0":
        layers = [amp.auto_mixed_precision(layer, level) for layer in layers]
    kept, gains = [], []
    for _ in range(draws):
        x = rng.standard_normal((batch, 4, 4, 4)).astype(np.float32)
        # A second block meets the same images with other weights.
        for norm, layer in zip(norms, layers, strict=True):
            out = layer(Tensor(x * (1 + len(gains) % 2))).asnumpy()
            plain = norm(Tensor(x)).asnumpy()
            here = np.abs(out).sum((1, 2, 3)) > 0
            gains += np.abs(out[here]).mean((1, 2, 3)).tolist()
            np.testing.assert_allclose(out[here], plain[here] / (1 - rate), rtol=0.02, atol=0.02)
            kept.append(here)
            x = x + rng.standard_normal(x.shape).astype(np.float32)
    ms.set_context(mode=ms.GRAPH_MODE)
    kept = np.array(kept).reshape(draws, 2 * batch)
    # Five standard deviations of a share.
    deviation = 5 * np.sqrt(rate * (1 - rate) / draws)
    assert np.abs(kept.mean(0) - (1 - rate)).max() < deviation
    # Neither a later step nor another image or block repeats the choice of the one before.
    together = np.corrcoef(kept.T.astype(float))
    assert np.abs(together[~np.eye(2 * batch, dtype=bool)]).max(initial=0) < 5 / np.sqrt(draws)
    assert abs(np.mean(kept[1:] == kept[:-1]) - (rate**2 + (1 - rate) ** 2)) < deviation


@pytest.mark.slow
def test_a_batch_of_one_image_keeps_its_branches():
    """The whole network, step by step: the share of kept branches, block by block."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    network = tiny("--drop_connect", "0.5").set_train()
    found = {}

    def watch(number):
        def look(cell, inputs, output):
            found.setdefault(number, []).append(float(np.abs(output.asnumpy()).max()) > 0)

        return look

    blocks = network.backbone.blocks
    for number, block in enumerate(blocks):
        if block.is_residual and block.drop_connect.rate:
            block.drop_connect.register_forward_hook(watch(number))
    rng = np.random.default_rng(0)
    for _ in range(40):
        network.backbone(Tensor(rng.standard_normal((1, 3, 128, 128)).astype(np.float32)))
    ms.set_context(mode=ms.GRAPH_MODE)
    assert len(found) >= 2
    for number, kept in found.items():
        rate = blocks[number].drop_connect.rate
        assert abs(np.mean(kept) - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / 40)


def test_equal_images_of_a_batch_are_dropped_one_by_one():
    x = np.tile(np.random.default_rng(0).standard_normal((1, 2, 3, 3)).astype(np.float32), (2000, 1, 1, 1))
    kept = np.abs(DropConnect(0.3).set_train()(Tensor(x)).asnumpy()).sum((1, 2, 3)) > 0
    assert abs(kept.mean() - 0.7) < 0.05


def test_drop_connect_rises_with_the_depth():
    blocks = EfficientNetB0(drop_connect=0.2).blocks
    assert [block.drop_connect.rate for block in blocks] == pytest.approx([0.2 * i / 16 for i in range(16)])
    assert [i for i, block in enumerate(blocks) if block.is_residual] == [2, 4, 6, 7, 9, 10, 12, 13, 14]


# sha256 of the lines "name [shape]", sorted, of what these packages build, without the counters of their batch norms
# and without a classifier's head: effdet 0.4.1 (tf_efficientdet_d0, 90 classes), timm 1.0.31 (tf_efficientnet_b0),
# efficientnet_pytorch 0.7.1 (efficientnet-b0).
PACKAGES = {
    "effdet": "d0d47a55eb2b6ba3d0f92aca17b8518f568f4e814ac070950d61fc9a99fe1f8d",
    "timm": "7de4dd4a6638a6e84bee93958deb3e965a8316381ac0c36bf499e3441a822b87",
    "efficientnet_pytorch": "06312bc841fd488e545fe0ca0133f7d317865001c1c3eb1fc5269816350385df",
}


@pytest.mark.parametrize("layout", PACKAGES)
def test_names_and_shapes_of_other_packages(layout):
    network = EfficientDet(EfficientNetB0(), 90)
    own = {p.name: list(p.shape) for p in network.get_parameters()}
    names = BY_NAME[layout].names(network)
    expected = own if layout == "effdet" else [name for name in own if name.startswith("backbone.")]
    assert sorted(names.values()) == sorted(expected)
    lines = sorted(f"{theirs} {own[ours]}" for theirs, ours in names.items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == PACKAGES[layout]


def test_which_tensor_of_effdet_is_which():
    """Shapes do not tell these apart."""
    names = BY_NAME["effdet"].names(EfficientDet(EfficientNetB0(), 90))
    assert {
        "fpn.cell.0.fnode.1.combine.resample.2.conv.conv.bias": "pyramid.inputs.p5.conv.bias",
        "fpn.cell.0.fnode.5.combine.resample.2.conv.conv.bias": "pyramid.inputs.p5_up.conv.bias",
        "fpn.cell.1.fnode.5.combine.edge_weights": "pyramid.layers.1.p5_out.fusion",
        "box_net.bn_rep.1.3.bn.weight": "regression.norms.3.1.gamma",
        "class_net.bn_rep.2.4.bn.running_var": "classification.norms.4.2.moving_variance",
    }.items() <= names.items()


@pytest.mark.parametrize("layout", ["effdet", "timm", "efficientnet_pytorch"])
def test_backbones_come_from_pytorch_files(tmp_path, monkeypatch, layout):
    """What --pretrained_backbone takes: the backbone of a detector, or an ImageNet classifier's."""
    narrow = [flag for flag in TINY if flag not in ("--label_map", "dense")]
    network, _ = filled(get_recipe(load_config(CONFIG, narrow)).build_network())
    own = {p.name: p.asnumpy() for p in network.get_parameters()}
    state = {old: own[new] for old, new in BY_NAME[layout].names(network).items()}
    state["bn1.num_batches_tracked"] = np.array(3)
    if layout != "effdet":
        state["conv_head.weight" if layout == "timm" else "_conv_head.weight"] = np.zeros((4, 16, 1, 1), np.float32)
    tensors, card, _ = imported(state, "torch", tmp_path, monkeypatch, "backbone", narrow)
    assert (card["source"]["layout"], card["part"]) == (layout, "backbone")
    assert tensors.keys() == {name for name in own if name.startswith("backbone.")}
    fresh = get_recipe(load_config(CONFIG, narrow)).build_network()
    fill_backbone(fresh, tmp_path / "out.ckpt")
    assert all(np.array_equal(p.asnumpy(), own[p.name]) for p in fresh.backbone.get_parameters())
