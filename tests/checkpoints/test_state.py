"""Checkpoints: written atomically, verified when read, skipped if damaged."""

import numpy as np
import pytest

from msdet.checkpoints.state import (
    CheckpointFolder,
    Snapshot,
    checkpoints_in,
    load_snapshot,
    manifest_of,
    newest_intact,
)
from msdet.checkpoints.weights_file import load_weights, save_weights
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
def test_saving_and_loading(tmp_path, averages):
    folder = CheckpointFolder(tmp_path, "yolov3", keep=3)
    path = folder.save(snapshot(25, averages), {"model": "yolov3"})
    assert path.name == "yolov3-2_25.ckpt"
    assert_equal(load_snapshot(path), snapshot(25, averages))
    tensors, card = load_weights(path)
    expected = snapshot(25, averages).averages or snapshot(25, averages).weights
    np.testing.assert_array_equal(tensors["a.weight"], expected["a.weight"])
    assert card["model"] == "yolov3" and card["weights"] == ("moving average" if averages else "as trained")


def test_only_the_newest_are_kept(tmp_path):
    folder = CheckpointFolder(tmp_path, "yolov3", keep=2)
    for step in (5, 20, 30, 100):
        folder.save(snapshot(step), {})
    # Ordered by step, not by name or time: 100 is the newest.
    assert [p.name for p in checkpoints_in(tmp_path)] == ["yolov3-10_100.state.json", "yolov3-3_30.state.json"]
    assert len(list(tmp_path.iterdir())) == 8


@pytest.mark.parametrize("suffix", [".ckpt", ".json", ".state.ckpt", ".state.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_checkpoint_is_skipped(tmp_path, suffix, damage):
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
    _, found = newest_intact([tmp_path], notes)
    assert_equal(found, snapshot(10))
    if not (suffix == ".state.json" and damage == "remove"):
        (note,) = notes
        assert note.startswith("skipped ") and "yolov3-2_20.state.json" in note


def test_a_flipped_byte_anywhere_in_a_checkpoint_is_detected(tmp_path):
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


def test_files_of_an_interrupted_save_are_no_checkpoint(tmp_path):
    CheckpointFolder(tmp_path, "yolov3", keep=5).save(snapshot(10), {})
    save_weights(tmp_path / "yolov3-2_20.ckpt", snapshot(20).weights, {})
    assert newest_intact([tmp_path], [])[1].progress["step"] == 10
    with pytest.raises(UserError, match="--pretrained"):
        manifest_of(tmp_path / "yolov3-2_20.ckpt")


def test_the_next_save_removes_the_files_of_a_killed_one(tmp_path):
    folder = CheckpointFolder(tmp_path, "yolov3", keep=5)
    killed = folder.save(snapshot(20), {})
    killed.with_name("yolov3-2_20.state.json").unlink()
    for name in (".yolov3-3_30.4711.ckpt", ".yolov3-3_30.state.4711.tmp", ".yolov3-best.4711.json"):
        (tmp_path / name).write_bytes(b"x")
    # Weights without state are kept, and so are files with other names.
    save_weights(tmp_path / "yolov3-1_10.ckpt", snapshot(10).weights, {})
    (tmp_path / ".yolov3-notes").write_text("")
    folder.save(snapshot(30), {})
    stems = {path.name.split(".")[0] for path in tmp_path.glob("[!.]*")}
    assert stems == {"yolov3-1_10", "yolov3-3_30"}
    assert [path.name for path in tmp_path.glob(".*")] == [".yolov3-notes"]


def test_resuming_from_an_older_checkpoint_sets_later_ones_aside(tmp_path):
    """A damaged later checkpoint must neither push out the new ones nor be resumed from."""
    folder = CheckpointFolder(tmp_path, "yolov3", keep=1)
    folder.save(snapshot(30), {})
    folder.save(snapshot(12), {})
    assert [path.name for path in checkpoints_in(tmp_path)] == ["yolov3-1_12.state.json"]
    assert newest_intact([tmp_path], [])[1].progress["step"] == 12
    assert (tmp_path / "yolov3-3_30.ckpt").is_file() and (tmp_path / "yolov3-3_30.state.json.set_aside").is_file()
    folder.save(snapshot(30), {})
    assert not list(tmp_path.glob("*.set_aside"))
    assert newest_intact([tmp_path], [])[1].progress["step"] == 30
