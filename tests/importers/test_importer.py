"""`msdet import`: weights of other programs, and files that do not fit."""

import json
import struct

import numpy as np
import pytest
from mindspore import Tensor

from msdet.checkpoints.card import apply_card
from msdet.checkpoints.weights_file import fill_network, load_weights, save_tensors, tensors_of
from msdet.config import load_config
from msdet.importers.command import main
from msdet.importers.darknet_file import read_darknet
from msdet.models.recipe import get_recipe
from msdet.models.yolov3_quant.weight_names import SOURCES
from tests.importers.tiny_yolov3 import CONFIG, darknet_bytes, run, tiny_network

pytestmark = pytest.mark.usefixtures("graph_mode")


def loaded(path, config=CONFIG):
    """The network that a checkpoint and its card describe, and the card."""
    tensors, card = load_weights(path)
    cfg = apply_card(load_config(config), card, path, with_classes=True)
    network = get_recipe(cfg).build_network()
    fill_network(network, tensors, path)
    return network.set_train(False), card


def compare(network, image, reference, tolerance=1e-3):
    for i, raw in enumerate(network(Tensor(image))):
        expected = reference[f"head{i}"]
        assert np.linalg.norm(raw.asnumpy() - expected) <= tolerance * np.linalg.norm(expected)


def test_parity_with_darknet(uncompiled, parity, parity_dir, tmp_path, capsys):
    npz = parity_dir / "yolov3.npz"
    parity.darknet_weights(npz, tmp_path / "yolov3.weights")
    output = tmp_path / "out.ckpt"
    assert main(["--config", CONFIG, "--source", str(tmp_path / "yolov3.weights"), "--output", str(output)]) == 0
    network, card = loaded(output)
    compare(network, parity.darknet_input(npz), np.load(npz))
    assert card["preprocess"]["mean"] == [0, 0, 0]
    assert card["network"]["activation"] == "leaky"
    assert card["class_names"][:2] == ["person", "bicycle"]
    assert card["category_ids"][-1] == 90
    assert "80 classes: assumed to be those of the public dataset" in capsys.readouterr().out


def test_parity_with_the_old_zoo(uncompiled, parity, parity_dir, tmp_path):
    npz = parity_dir / "zoo_yolov3.npz"
    # As saved by the zoo: with the prefix of the training wrapper and the state of the optimiser.
    state = {f"yolo_network.{name}": value for name, value in parity.zoo_state_dict(npz).items()}
    state |= {"moments.yolo_network.feature_map.conv1.0.weight": np.zeros(3, np.float32), "learning_rate": np.zeros(4)}
    save_tensors(tmp_path / "zoo.ckpt", state)
    output = tmp_path / "out.ckpt"
    assert main(["--config", CONFIG, "--source", str(tmp_path / "zoo.ckpt"), "--output", str(output)]) == 0
    network, card = loaded(output)
    compare(network, parity.zoo_input(npz), np.load(npz))
    assert (card["network"]["activation"], card["network"]["padding"]) == ("relu", "same")


@pytest.mark.parametrize("minor", [1, 2])
def test_both_versions_of_the_header(tmp_path, minor):
    network = tiny_network()
    (tmp_path / "a.weights").write_bytes(darknet_bytes(network, minor))
    file = read_darknet(tmp_path / "a.weights")
    assert (file.version[1], file.seen) == (minor, 77)
    assert run(tmp_path, tmp_path / "a.weights", "--layout", "darknet") == 0
    tensors, _ = load_weights(tmp_path / "out.ckpt")
    for name, value in tensors_of(network).items():
        np.testing.assert_array_equal(tensors[name], value)


@pytest.mark.parametrize("layers", [12, 20, None])
def test_only_the_backbone(tmp_path, capsys, layers, monkeypatch):
    """Files that end within the backbone, some layers after it, and complete ones."""
    source = type(SOURCES[0])("darknet", SOURCES[0].layers, SOURCES[0].settings, backbone_layers=16)
    recipe = type(get_recipe(load_config(CONFIG)))
    monkeypatch.setattr(recipe, "weight_sources", lambda self: (source,))
    network = tiny_network()
    (tmp_path / "a.conv.74").write_bytes(darknet_bytes(network, layers=layers))
    code = run(tmp_path, tmp_path / "a.conv.74", "--partial", "backbone")
    if layers == 12:
        assert code == 1
        assert "too short" in capsys.readouterr().err
        assert not (tmp_path / "out.ckpt").exists()
        return
    assert code == 0
    out = capsys.readouterr().out
    assert ("skipped, not used by this part" in out) and ("block32.trunk.0" in out)
    tensors, card = load_weights(tmp_path / "out.ckpt")
    assert {name.split(".")[0] for name in tensors} == {"backbone"}
    assert len(tensors) == 5 * 16
    assert card["part"] == "backbone"


def test_darknet_files_that_do_not_fit(tmp_path, capsys):
    network = tiny_network()
    data = darknet_bytes(network)
    cases = {
        data[:-400]: "too short",
        data + b"\0" * 400: "too long: 100 values",
        data[:-2]: "truncated",
        struct.pack("<iiiq", 70000, 2, 5, 0) + data[20:]: "not a darknet file",
        data[:10]: "less than a header",
        data[:-4] + np.float32("nan").tobytes(): "not finite, in block8.predict.weight (values ",
        b"": "is empty",
    }
    for content, message in cases.items():
        (tmp_path / "bad.weights").write_bytes(content)
        assert run(tmp_path, tmp_path / "bad.weights", "--layout", "darknet") == 1
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out.ckpt").exists()
        assert not (tmp_path / "out.json").exists()


def zoo_state(network):
    names = SOURCES[1].names(network)
    own = tensors_of(network)
    return {name: own[target] for name, target in names.items()}


def test_named_files_that_do_not_fit(tmp_path, capsys):
    state = zoo_state(tiny_network())
    first, second = list(state)[:2]
    cases = [
        ({k: v for k, v in state.items() if k != first}, f"1 tensors are missing in the file: {first}"),
        ({**state, "feature_map.extra.weight": np.zeros(3, np.float32)}, "feature_map.extra.weight"),
        ({**state, second: np.zeros(3, np.float32)}, f"{second} is float32 (3,)"),
        ({**state, second: np.zeros(state[second].shape, np.int32)}, "int32"),
        ({**state, second: np.full(state[second].shape, np.inf, np.float32)}, f"({second})"),
    ]
    for content, message in cases:
        save_tensors(tmp_path / "bad.ckpt", content)
        assert run(tmp_path, tmp_path / "bad.ckpt") == 1
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out.ckpt").exists()


def test_the_card_belongs_to_the_file(tmp_path):
    (tmp_path / "a.weights").write_bytes(darknet_bytes(tiny_network()))
    assert run(tmp_path, tmp_path / "a.weights", "--class_names", "cat,dog") == 0
    card = json.loads((tmp_path / "out.json").read_text())
    assert card["class_names"] == ["cat", "dog"]
    assert card["category_ids"] == [1, 2]
    assert card["source"]["file"] == "a.weights"
    assert card["source"]["layout"] == "darknet"
