"""Weights files and cards: written atomically, verified when read, loaded into networks."""

import json
import os
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from msdet.checkpoints.weights_file import fill_network, load_weights, save_weights, tensors_of
from msdet.errors import UserError


def weights(number):
    return {"a.weight": np.full((2, 3), number, np.float32), "b.bias": np.float32([number])}


@pytest.mark.parametrize("killed_at", ["weights", "card"])
def test_weights_and_card_match_at_any_interruption(tmp_path, monkeypatch, killed_at):
    """The best weights are replaced again and again under one name."""
    path = tmp_path / "best.ckpt"
    save_weights(path, weights(1), {"epoch": 1})

    class Killed(BaseException):
        pass

    replace = Path.replace

    def kill_before(self, target):
        if target == path and killed_at == "weights":
            raise Killed
        result = replace(self, target)
        if target == path:
            raise Killed
        return result

    monkeypatch.setattr(Path, "replace", kill_before)
    with pytest.raises(Killed):
        save_weights(path, weights(2), {"epoch": 2})
    monkeypatch.undo()
    tensors, card = load_weights(path)
    step = 1 if killed_at == "weights" else 2
    assert card["epoch"] == step
    np.testing.assert_array_equal(tensors["a.weight"], weights(step)["a.weight"])


def test_a_card_without_checksum_is_accepted(tmp_path):
    path = tmp_path / "x.ckpt"
    save_weights(path, weights(1), {"model": "yolov3"})
    card = json.loads(path.with_suffix(".json").read_text())
    edited = {**card, "model": "yolov4"}
    path.with_suffix(".json").write_text(json.dumps(edited))
    with pytest.raises(UserError, match=r"x.json is corrupt or was edited.*remove its entries"):
        load_weights(path)
    path.with_suffix(".json").write_text(
        json.dumps({name: value for name, value in edited.items() if name not in ("sealed", "checksum")})
    )
    assert load_weights(path)[1]["model"] == "yolov4"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_the_message_names_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(UserError, match="cannot be written"):
        save_weights(tmp_path / "x.ckpt", weights(1), {})


def test_the_message_names_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="out.*cannot be written"):
        save_weights(tmp_path / "out" / "x.ckpt", weights(1), {})


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch):
    path = tmp_path / "x.ckpt"
    save_weights(path, weights(1), {})
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ms, "save_checkpoint", full)
    with pytest.raises(UserError, match="No space left on device"):
        save_weights(path, weights(2), {})
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.ckpt", "x.json"]


def test_a_flipped_byte_in_weights_is_detected_without_a_card(tmp_path):
    path = tmp_path / "x.ckpt"
    save_weights(path, {"a": np.arange(1000, dtype=np.float32)}, {})
    path.with_suffix(".json").unlink()
    data = bytearray(path.read_bytes())
    data[500] ^= 4
    path.write_bytes(data)
    with pytest.raises(UserError, match="not a valid MindSpore checkpoint"):
        load_weights(path)


def test_a_card_of_other_weights_is_rejected(tmp_path):
    save_weights(tmp_path / "x.ckpt", weights(1), {})
    card = (tmp_path / "x.json").read_text()
    save_weights(tmp_path / "x.ckpt", weights(2), {})
    (tmp_path / "x.json").write_text(card)
    with pytest.raises(UserError, match="sha256 differs"):
        load_weights(tmp_path / "x.ckpt")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", bytes(1000)])
def test_other_files_are_rejected(tmp_path, content):
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    with pytest.raises(UserError, match="x.ckpt is not a valid MindSpore checkpoint"):
        load_weights(path)


def test_tensors_that_do_not_fit_are_rejected(tmp_path):
    network = nn.Dense(3, 2)
    good = tensors_of(network)
    before = network.weight.asnumpy().copy()
    for tensors, fragment in (
        ({"weight": good["weight"] + 1}, "1 tensors of the network are missing: bias"),
        ({**good, "extra": np.zeros(1)}, "1 tensors belong to no layer: extra"),
        ({**good, "weight": np.zeros((3, 2), np.float32)}, r"weight is \(3, 2\), in the network \(2, 3\)"),
    ):
        with pytest.raises(UserError, match=fragment):
            fill_network(network, tensors, tmp_path / "w.ckpt")
        np.testing.assert_array_equal(network.weight.asnumpy(), before)


def test_tensors_are_loaded_into_the_network(tmp_path):
    network = nn.Dense(3, 2)
    tensors = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.float32([7, 8])}
    fill_network(network, tensors, tmp_path / "w.ckpt")
    copies = tensors_of(network)
    assert copies.keys() == tensors.keys()
    for name, value in tensors.items():
        np.testing.assert_array_equal(copies[name], value)
    copies["weight"][:] = 0
    np.testing.assert_array_equal(network.weight.asnumpy(), tensors["weight"])
