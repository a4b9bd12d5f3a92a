"""RefineDet's networks: their sizes, independent implementations, slow versions of their layers, exports, files."""

import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, amp, nn, ops

from msdet.checkpoints.card import apply_backbone_card, apply_card
from msdet.checkpoints.weights_file import fill_network, load_weights, save_tensors
from msdet.config import load_config
from msdet.errors import UsageError, UserError
from msdet.importers.importer import import_weights
from msdet.models.recipe import get_recipe
from msdet.models.refinedet.anchors import RefineDetDecoder, make_anchors
from msdet.models.refinedet.backbones import ResNet101
from msdet.models.refinedet.layers import ChannelNorm, Upsample, upsample_weight
from msdet.models.refinedet.weight_names import RESNET101_SOURCES, VGG16_SOURCES
from msdet.training.start_weights import fill_backbone

pytestmark = pytest.mark.usefixtures("graph_mode")

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


def deviation(ours, reference):
    return float(np.linalg.norm(ours - reference) / np.linalg.norm(reference))


def imported(config, state, tmp_path, monkeypatch, partial="", flags=(), suffix=".pth"):
    """Lets the importer find these tensors in a file."""
    source = tmp_path / f"source{suffix}"
    if suffix == ".ckpt":
        save_tensors(source, state)
    else:
        source.write_bytes(b"PK stands for a PyTorch file")
        monkeypatch.setattr("msdet.importers.importer.read_torch", lambda *_: state)
    import_weights(load_config(config, [*flags]), source, tmp_path / "out.ckpt", partial=partial)
    return load_weights(tmp_path / "out.ckpt")


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
    # The published files are fed with values 0..255, the mean colour taken off.
    image = np.full((1, 4, 4, 3), 200, np.uint8)
    fed = recipe.build_preprocess()(Tensor(image)).asnumpy()[0, :, 0, 0]
    np.testing.assert_allclose(fed, (200 - 123, 200 - 117, 200 - 104), atol=1e-3)


def test_the_size_of_resnet101():
    """44,549,160 is torchvision's whole classifier, 2,049,000 of which are its last layer."""
    backbone = ResNet101()
    assert sum(p.size for p in backbone.trainable_params()) == 44_549_160 - 2_049_000
    network = get_recipe(load_config(RESNET, ["--num_classes", "80"])).build_network()
    assert sum(p.size for p in network.trainable_params()) == 61_991_044


@pytest.mark.parametrize("config", [VGG, RESNET])
def test_own_values(golden_dir, config):
    """64 values of each raw map; tests/golden keeps them, so that the network cannot change unnoticed."""
    network, image = filled(tiny_recipe(config).build_network())
    maps = [m.asnumpy().ravel() for m in network(Tensor(image))]
    values = np.stack([np.resize(m[:: max(1, len(m) // 64)], 64) for m in maps])
    expected = np.load(golden_dir / f"refinedet_{'vgg16' if config == VGG else 'resnet101'}_tiny.npy")
    np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("config", [VGG, RESNET])
def test_shapes_of_any_input(uncompiled, config):
    recipe = tiny_recipe(config)
    network = recipe.build_network().set_train(False)
    count = len(make_anchors(64, 128))
    raw = network(Tensor(np.zeros((2, 3, 64, 128), np.float32)))
    assert [m.shape for m in raw] == [(2, count, 4), (2, count, 2), (2, count, 4), (2, count, 4)]
    boxes, scores = recipe.build_decoder()(raw, (64, 128))
    assert boxes.shape == (2, count, 4) and scores.shape == (2, count, 3)


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


def test_the_transposed_convolution_of_a_loop():
    rng = np.random.default_rng(0)
    weight, bias, x = rng.normal(0, 1, (5, 5, 2, 2)), rng.normal(0, 1, 5), rng.normal(0, 1, (2, 5, 3, 4))
    layer = Upsample(5)
    layer.conv.weight.set_data(Tensor(upsample_weight(weight).astype(np.float32)))
    layer.bias.set_data(Tensor(bias.astype(np.float32)))
    expected = np.zeros((2, 5, 6, 8)) + bias[:, None, None]
    for row, column in np.ndindex(3, 4):
        patch = np.einsum("ni,ioab->noab", x[:, :, row, column], weight)
        expected[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] += patch
    np.testing.assert_allclose(layer(Tensor(x.astype(np.float32))).asnumpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_the_norm_of_channels_of_a_loop(training):
    x = np.random.default_rng(0).normal(0, 3, (2, 6, 3, 4)).astype(np.float32)
    found = ChannelNorm(6, 10.0).set_train(training)(Tensor(x)).asnumpy()
    for n, row, column in np.ndindex(2, 3, 4):
        vector = x[n, :, row, column]
        expected = 10 * vector / math.sqrt((vector.astype(float) ** 2).sum())
        np.testing.assert_allclose(found[n, :, row, column], expected, rtol=1e-5)


@pytest.mark.parametrize("level", ["O0", "O3"])
@pytest.mark.parametrize("training", [False, True])
def test_the_norm_of_channels_of_large_and_of_empty_pixels(uncompiled, level, training):
    """Squares beyond half precision, and a pixel of zeros: finite maps, of length 10 and 0, with finite gradients."""
    x = np.random.default_rng(0).normal(0, 3, (1, 6, 3, 4)).astype(np.float32)
    x[..., 0] = 0
    x[..., 1] *= 1000
    norm = amp.auto_mixed_precision(nn.SequentialCell(ChannelNorm(6, 10.0)), level).set_train(training)
    kind = ms.float16 if level == "O3" else ms.float32
    out = norm(Tensor(x, kind)).asnumpy().astype(np.float64)
    lengths = np.sqrt((out**2).sum(1))
    np.testing.assert_allclose(lengths[..., 1:], 10, rtol=2e-3)
    assert (lengths[..., 0] == 0).all()
    if training:
        gradient = ms.grad(lambda x: ops.reduce_sum(norm(x) * 0.1))(Tensor(x, kind)).asnumpy()
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("config", "source", "extra"),
    [(VGG, VGG16_SOURCES[1], {}), (RESNET, RESNET101_SOURCES[0], {"fc.weight": (9, 4), "fc.bias": (9,)})],
    ids=["vgg16_reducedfc", "torchvision"],
)
def test_backbones_come_from_pytorch_files(tmp_path, monkeypatch, config, source, extra):
    """What --pretrained_backbone takes, and that the normalisation of these weights comes along."""
    network, _ = filled(tiny_recipe(config).build_network())
    own = {p.name: p.asnumpy() for p in network.get_parameters()}
    state = {old: own[new] for old, new in source.names(network).items()}
    state |= {name: np.zeros(shape, np.float32) for name, shape in extra.items()}
    with pytest.raises(UsageError, match=f"holds a backbone alone .layout {source.name}.: add --partial backbone"):
        imported(config, state, tmp_path, monkeypatch, "", [*TINY[config], *SMALL])
    tensors, card = imported(config, state, tmp_path, monkeypatch, "backbone", [*TINY[config], *SMALL])
    assert (card["source"]["layout"], card["part"]) == (source.name, "backbone")
    assert tensors.keys() == {name for name in own if name.startswith("backbone.")}
    fresh = tiny_recipe(config).build_network()
    fill_backbone(fresh, tmp_path / "out.ckpt")
    assert all(np.array_equal(p.asnumpy(), own[p.name]) for p in fresh.backbone.get_parameters())
    cfg = apply_backbone_card(load_config(config, SMALL), tmp_path / "out.ckpt")
    assert cfg.std[0] == pytest.approx(1 / 255 if config == VGG else 0.229)


def test_names_of_the_public_files():
    """A few names and shapes as the public sources build them, and that every parameter of a backbone has one."""
    network = get_recipe(load_config(RESNET, ["--num_classes", "20"])).build_network()
    own = {p.name: tuple(p.shape) for p in network.get_parameters()}
    names = RESNET101_SOURCES[0].names(network)
    assert sorted(names.values()) == sorted(name for name in own if name.startswith("backbone."))
    expected = {
        "conv1.weight": (64, 3, 7, 7), "bn1.running_var": (64,), "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer2.0.conv2.weight": (128, 128, 3, 3), "layer3.22.bn3.weight": (1024,),
        "layer4.0.downsample.1.running_mean": (2048,), "layer4.2.conv3.weight": (2048, 512, 1, 1),
    }  # fmt: skip
    assert {name: own[names[name]] for name in expected} == expected
    vgg = get_recipe(load_config(VGG, ["--num_classes", "20"])).build_network()
    own = {p.name: tuple(p.shape) for p in vgg.get_parameters()}
    names = VGG16_SOURCES[1].names(vgg)
    expected = {"0.weight": (64, 3, 3, 3), "28.bias": (512,), "31.weight": (1024, 512, 3, 3),
                "33.weight": (1024, 1024, 1, 1)}  # fmt: skip
    assert {name: own[names[name]] for name in expected} == expected
    assert len(names) == 30


@pytest.mark.parametrize("config", [VGG, RESNET])
def test_the_old_zoos_checkpoint_is_refused_with_the_reason(tmp_path, monkeypatch, config):
    state = {"arm.multi_loc_layers.0.weight": np.zeros((8, 3, 3, 3), np.float32)}
    with pytest.raises(UserError, match="another network.*anchors"):
        imported(config, state, tmp_path, monkeypatch, flags=["--num_classes", "80"], suffix=".ckpt")


def test_a_frozen_backbone_is_not_trained():
    cfg = load_config(VGG, [*TINY[VGG], *SMALL, "--freeze_layer=backbone"])
    names = {p.name.split(".")[0] for p in get_recipe(cfg).build_network().trainable_params()}
    assert "backbone" not in names and {"extra", "transfer", "odm_conf"} <= names
