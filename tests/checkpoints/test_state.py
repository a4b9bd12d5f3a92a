"""Checkpoints are whole or passed over."""

import json
import os
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from msdet.checkpoints.state import CheckpointFolder, Snapshot, checkpoints_in, load_snapshot, manifest_of, newest_whole
from msdet.checkpoints.weights_file import fill_network, load_weights, save_weights, tensors_of
from msdet.errors import UserError


def snapshot(step, averages=False):
    rng = np.random.default_rng(step)
    weights = {"a.weight": rng.standard_normal((2, 3)).astype(np.float32), "b.bias": np.float32([step])}
    return Snapshot(
        weights=weights,
        averages={name: value / 2 for name, value in weights.items()} if averages else {},
        state={"velocity.a.weight": rng.standard_normal((2, 3)).astype(np.float32), "scaler.scale": np.float32(8)},
        progress={"epoch": step // 10, "step": step, "step_in_epoch": step % 10, "best_score": 0.5},
        config={"lr": 0.1},
        dataset="fingerprint",
    )


def assert_equal(a, b):
    assert a.progress == b.progress and a.config == b.config and a.dataset == b.dataset
    for mine, other in ((a.weights, b.weights), (a.averages, b.averages), (a.state, b.state)):
        assert mine.keys() == other.keys()
        for name, value in mine.items():
            np.testing.assert_array_equal(np.reshape(value, -1), np.reshape(other[name], -1), err_msg=name)


@pytest.mark.parametrize("averages", [False, True])
def test_what_is_saved_comes_back(tmp_path, averages):
    folder = CheckpointFolder(tmp_path, "yolov3", keep=3)
    path = folder.save(snapshot(25, averages), {"model": "yolov3"})
    assert path.name == "yolov3-2_25.ckpt"
    assert_equal(load_snapshot(path), snapshot(25, averages))
    tensors, card = load_weights(path)
    expected = snapshot(25, averages).averages or snapshot(25, averages).weights
    np.testing.assert_array_equal(tensors["a.weight"], expected["a.weight"])
    assert card["model"] == "yolov3" and card["weights"] == ("moving average" if averages else "as trained")


def test_the_newest_are_kept_and_nothing_else_is_left(tmp_path):
    folder = CheckpointFolder(tmp_path, "yolov3", keep=2)
    for step in (5, 20, 30, 100):
        folder.save(snapshot(step), {})
    # By steps, not by name or time: 100 is the newest.
    assert [p.name for p in checkpoints_in(tmp_path)] == ["yolov3-10_100.state.json", "yolov3-3_30.state.json"]
    assert len(list(tmp_path.iterdir())) == 8


@pytest.mark.parametrize("suffix", [".ckpt", ".json", ".state.ckpt", ".state.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, suffix, damage):
    folder = CheckpointFolder(tmp_path, "yolov3", keep=5)
    folder.save(snapshot(10), {})
    newest = folder.save(snapshot(20), {})
    victim = newest.with_name(newest.name.replace(".ckpt", suffix))
    data = bytearray(victim.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
        victim.write_bytes(data)
    elif damage == "cut":
        victim.write_bytes(data[: len(data) // 2])
    else:
        victim.unlink()
    notes = []
    _, found = newest_whole([tmp_path], notes)
    assert_equal(found, snapshot(10))
    if not (suffix == ".state.json" and damage == "remove"):
        (note,) = notes
        assert "passed over" in note and "yolov3-2_20.state.json" in note


def test_every_flipped_byte_of_a_checkpoint_is_found(tmp_path):
    """Any byte of any of the four files, not only one in the middle."""
    newest = CheckpointFolder(tmp_path, "yolov3", keep=5).save(snapshot(20, averages=True), {"model": "yolov3"})
    rng = np.random.default_rng(0)
    for suffix in (".ckpt", ".json", ".state.ckpt", ".state.json"):
        victim = newest.with_name(newest.name.replace(".ckpt", suffix))
        whole = victim.read_bytes()
        for place in {0, len(whole) - 1, *rng.integers(0, len(whole), 60).tolist()}:
            data = bytearray(whole)
            data[place] ^= int(rng.integers(1, 256))
            victim.write_bytes(data)
            with pytest.raises(UserError):
                load_snapshot(newest)
        victim.write_bytes(whole)
    load_snapshot(newest)


def test_leftovers_of_an_interrupted_save_are_no_checkpoint(tmp_path):
    CheckpointFolder(tmp_path, "yolov3", keep=5).save(snapshot(10), {})
    save_weights(tmp_path / "yolov3-2_20.ckpt", snapshot(20).weights, {})
    assert newest_whole([tmp_path], [])[1].progress["step"] == 10
    with pytest.raises(UserError, match="--pretrained"):
        manifest_of(tmp_path / "yolov3-2_20.ckpt")


def test_the_next_save_removes_what_a_killed_one_left(tmp_path):
    folder = CheckpointFolder(tmp_path, "yolov3", keep=5)
    killed = folder.save(snapshot(20), {})
    killed.with_name("yolov3-2_20.state.json").unlink()
    for name in (".yolov3-3_30.4711.ckpt", ".yolov3-3_30.state.4711.tmp", ".yolov3-best.4711.json"):
        (tmp_path / name).write_bytes(b"x")
    # Weights without their state are not ours to remove, nor are files of other names.
    save_weights(tmp_path / "yolov3-1_10.ckpt", snapshot(10).weights, {})
    (tmp_path / ".yolov3-notes").write_text("")
    folder.save(snapshot(30), {})
    stems = {path.name.split(".")[0] for path in tmp_path.glob("[!.]*")}
    assert stems == {"yolov3-1_10", "yolov3-3_30"}
    assert [path.name for path in tmp_path.glob(".*")] == [".yolov3-notes"]


def test_going_on_from_an_older_one_keeps_the_new_ones(tmp_path):
    """A damaged later checkpoint must neither push the new ones out nor be taken next time."""
    folder = CheckpointFolder(tmp_path, "yolov3", keep=1)
    folder.save(snapshot(30), {})
    folder.save(snapshot(12), {})
    assert [path.name for path in checkpoints_in(tmp_path)] == ["yolov3-1_12.state.json"]
    assert newest_whole([tmp_path], [])[1].progress["step"] == 12
    assert (tmp_path / "yolov3-3_30.ckpt").is_file() and (tmp_path / "yolov3-3_30.state.json.set_aside").is_file()
    folder.save(snapshot(30), {})
    assert not list(tmp_path.glob("*.set_aside"))
    assert newest_whole([tmp_path], [])[1].progress["step"] == 30


@pytest.mark.parametrize("killed_at", ["weights", "card"])
def test_weights_and_card_fit_each_other_at_every_moment(tmp_path, monkeypatch, killed_at):
    """The best weights are written over and over under one name."""
    path = tmp_path / "best.ckpt"
    save_weights(path, snapshot(1).weights, {"epoch": 1})

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
        save_weights(path, snapshot(2).weights, {"epoch": 2})
    monkeypatch.undo()
    tensors, card = load_weights(path)
    step = 1 if killed_at == "weights" else 2
    assert card["epoch"] == step
    np.testing.assert_array_equal(tensors["a.weight"], snapshot(step).weights["a.weight"])


def test_a_card_written_by_hand_needs_no_checksum(tmp_path):
    path = tmp_path / "x.ckpt"
    save_weights(path, snapshot(1).weights, {"model": "yolov3"})
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
def test_a_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(UserError, match="cannot be written"):
        save_weights(tmp_path / "x.ckpt", snapshot(1).weights, {})


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="out.*cannot be written"):
        save_weights(tmp_path / "out" / "x.ckpt", snapshot(1).weights, {})


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "x.ckpt"
    save_weights(path, snapshot(1).weights, {})
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ms, "save_checkpoint", full)
    with pytest.raises(UserError, match="No space left on device"):
        save_weights(path, snapshot(2).weights, {})
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.ckpt", "x.json"]


def test_a_flipped_byte_in_weights_is_found_without_a_card(tmp_path):
    path = tmp_path / "x.ckpt"
    save_weights(path, {"a": np.arange(1000, dtype=np.float32)}, {})
    path.with_suffix(".json").unlink()
    data = bytearray(path.read_bytes())
    data[500] ^= 4
    path.write_bytes(data)
    with pytest.raises(UserError, match="no whole MindSpore checkpoint"):
        load_weights(path)


def test_a_card_of_other_weights_is_refused(tmp_path):
    save_weights(tmp_path / "x.ckpt", snapshot(1).weights, {})
    card = (tmp_path / "x.json").read_text()
    save_weights(tmp_path / "x.ckpt", snapshot(2).weights, {})
    (tmp_path / "x.json").write_text(card)
    with pytest.raises(UserError, match="sha256 differs"):
        load_weights(tmp_path / "x.ckpt")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", bytes(1000)])
def test_foreign_files_are_refused(tmp_path, content):
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    with pytest.raises(UserError, match="x.ckpt is no whole MindSpore checkpoint"):
        load_weights(path)


def test_every_tensor_must_fit(tmp_path):
    network = nn.Dense(3, 2)
    good = tensors_of(network)
    before = network.weight.asnumpy().copy()
    for tensors, fragment in (
        ({"weight": good["weight"] + 1}, "1 tensors of the network are missing: bias"),
        ({**good, "extra": np.zeros(1)}, "1 tensors belong to no layer: extra"),
        ({**good, "weight": np.zeros((3, 2), np.float32)}, r"weight is \(3, 2\), the network's \(2, 3\)"),
    ):
        with pytest.raises(UserError, match=fragment):
            fill_network(network, tensors, tmp_path / "w.ckpt")
        np.testing.assert_array_equal(network.weight.asnumpy(), before)
