"""Names of the tensors of RefineDet and its backbones in files of other programs."""

import numpy as np
import pytest

from msdet.checkpoints.card import apply_backbone_card
from msdet.config import load_config
from msdet.errors import UsageError
from msdet.models.recipe import get_recipe
from msdet.models.refinedet.weight_names import RESNET101_SOURCES, VGG16_SOURCES
from msdet.training.initial_weights import load_backbone
from tests.models.refinedet.networks import RESNET, SMALL, TINY, VGG, filled, imported, tiny_recipe

pytestmark = pytest.mark.usefixtures("graph_mode")


@pytest.mark.parametrize(
    ("config", "source", "extra"),
    [(VGG, VGG16_SOURCES[1], {}), (RESNET, RESNET101_SOURCES[0], {"fc.weight": (9, 4), "fc.bias": (9,)})],
    ids=["vgg16_reducedfc", "torchvision"],
)
def test_backbones_from_pytorch_files(tmp_path, monkeypatch, config, source, extra):
    """For --pretrained_backbone, including the normalisation of these weights."""
    network, _ = filled(tiny_recipe(config).build_network())
    own = {p.name: p.asnumpy() for p in network.get_parameters()}
    state = {old: own[new] for old, new in source.names(network).items()}
    state |= {name: np.zeros(shape, np.float32) for name, shape in extra.items()}
    with pytest.raises(UsageError, match=f"holds only a backbone .layout {source.name}.: add --partial backbone"):
        imported(config, state, tmp_path, monkeypatch, "", [*TINY[config], *SMALL])
    tensors, card = imported(config, state, tmp_path, monkeypatch, "backbone", [*TINY[config], *SMALL])
    assert (card["source"]["layout"], card["part"]) == (source.name, "backbone")
    assert tensors.keys() == {name for name in own if name.startswith("backbone.")}
    fresh = tiny_recipe(config).build_network()
    load_backbone(fresh, tmp_path / "out.ckpt")
    assert all(np.array_equal(p.asnumpy(), own[p.name]) for p in fresh.backbone.get_parameters())
    cfg = apply_backbone_card(load_config(config, SMALL), tmp_path / "out.ckpt")
    assert cfg.std[0] == pytest.approx(1 / 255 if config == VGG else 0.229)


def test_names_of_the_public_files():
    """Some names and shapes of the public sources; every parameter of a backbone has a name."""
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
