"""Names of the tensors of EfficientDet-D0 in files of other programs."""

import hashlib

import numpy as np
import pytest

from msdet.config import load_config
from msdet.models.efficientdet_d0.efficientnet import EfficientNetB0
from msdet.models.efficientdet_d0.network import EfficientDet
from msdet.models.recipe import get_recipe
from msdet.training.initial_weights import load_backbone
from tests.models.efficientdet_d0.networks import BY_NAME, CONFIG, TINY, filled, imported

pytestmark = pytest.mark.usefixtures("graph_mode")

# sha256 of the sorted lines "name [shape]" of the tensors of these packages, without counters of batch norms and heads
# of classifiers: effdet 0.4.1 (tf_efficientdet_d0, 90 classes), timm 1.0.31 (tf_efficientnet_b0),
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


def test_names_of_effdet_with_equal_shapes():
    """Tensors that cannot be distinguished by shape."""
    names = BY_NAME["effdet"].names(EfficientDet(EfficientNetB0(), 90))
    assert {
        "fpn.cell.0.fnode.1.combine.resample.2.conv.conv.bias": "pyramid.inputs.p5.conv.bias",
        "fpn.cell.0.fnode.5.combine.resample.2.conv.conv.bias": "pyramid.inputs.p5_up.conv.bias",
        "fpn.cell.1.fnode.5.combine.edge_weights": "pyramid.layers.1.p5_out.fusion",
        "box_net.bn_rep.1.3.bn.weight": "regression.norms.3.1.gamma",
        "class_net.bn_rep.2.4.bn.running_var": "classification.norms.4.2.moving_variance",
    }.items() <= names.items()


@pytest.mark.parametrize("layout", ["effdet", "timm", "efficientnet_pytorch"])
def test_backbones_from_pytorch_files(tmp_path, monkeypatch, layout):
    """For --pretrained_backbone: the backbone of a detector or of an ImageNet classifier."""
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
    load_backbone(fresh, tmp_path / "out.ckpt")
    assert all(np.array_equal(p.asnumpy(), own[p.name]) for p in fresh.backbone.get_parameters())
