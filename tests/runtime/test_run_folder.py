"""Folders of runs: of two trainings none writes into the other's, and a run is found again."""

import json
import os
import threading

import numpy as np
import pytest

from msdet.checkpoints.state import CheckpointFolder, Snapshot
from msdet.config import load_config
from msdet.errors import UsageError, UserError
from msdet.files import make_unique_folder, timestamped_folder
from msdet.runtime.run_folder import RunFolder, find_run

pytestmark = pytest.mark.usefixtures("at_root")


def config(folder, *flags, model="yolov3_shapes"):
    return load_config(f"configs/{model}.yaml", ["--ckpt_path", str(folder), *flags])


def write_checkpoint(run, model="yolov3", step=4, at=1000):
    progress = {"epoch": 1, "step": step, "step_in_epoch": 0, "best_score": None}
    tensors = {"weight": np.ones(3, np.float32)}
    snapshot = Snapshot(tensors, {}, {"velocity.weight": tensors["weight"]}, progress, {"model": model}, "data")
    folder = CheckpointFolder(run / "ckpt_0", model, 9)
    folder.save(snapshot, {"model": model})
    manifest = folder.manifest(1, step)
    os.utime(manifest, (at, at))
    return manifest


def test_a_second_training_of_one_name_is_refused_while_the_first_runs(tmp_path):
    cfg = config(tmp_path, "--run_name", "mine")
    first, _ = find_run(cfg, [])
    with pytest.raises(UserError, match=rf"mine is in use by another training \(process {os.getpid()} on .*--run_name"):
        find_run(cfg, [])
    first.close()
    # One that ended before its first step may be begun again; the file of the lock does not matter.
    find_run(cfg, [])[0].close()


@pytest.mark.parametrize("left", ["checkpoint", "best", "curves"])
def test_a_name_that_holds_a_run_is_refused(tmp_path, left):
    run = tmp_path / "mine"
    (run / "summary").mkdir(parents=True)
    (run / "ckpt_0").mkdir()
    (run / "summary" / "train.csv").write_text("step,loss\n")
    cfg = config(tmp_path, "--run_name", "mine")
    find_run(cfg, [])[0].close()
    if left == "checkpoint":
        write_checkpoint(run)
    elif left == "best":
        (run / "ckpt_0" / "yolov3-best.ckpt").write_text("")
    else:
        (run / "summary" / "train.csv").write_text("step,loss\n1,0.5\n")
    with pytest.raises(UsageError, match="already contains a run: set --resume=auto to resume it, or choose another"):
        find_run(cfg, [])
    # The refusal leaves no lock behind.
    find_run(config(tmp_path, "--run_name", "mine", "--resume", "auto"), [])[0].close()


def test_runs_that_start_within_one_second_get_folders_of_their_own(tmp_path):
    folders, start = [], threading.Barrier(8)

    def make():
        start.wait()
        folders.append(make_unique_folder(tmp_path / "new", "2026-01-31"))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = sorted(path.name for path in folders)
    assert names == ["2026-01-31", *(f"2026-01-31_{n}" for n in range(2, 9))]
    assert len({timestamped_folder(tmp_path, "eval") for _ in range(3)}) == 3
    runs = [find_run(config(tmp_path), [])[0] for _ in range(3)]
    assert len({run.path for run in runs}) == 3 and all(run.path.is_dir() for run in runs)


@pytest.mark.parametrize("named", ["auto", "checkpoint", "run_name"])
def test_a_run_that_is_being_trained_is_not_resumed_a_second_time(tmp_path, named):
    manifest = write_checkpoint(tmp_path / "mine")
    flags = {
        "auto": ["--resume", "auto"],
        "checkpoint": ["--resume", str(manifest)],
        "run_name": ["--resume", "auto", "--run_name", "mine"],
    }[named]
    cfg = config(tmp_path, *flags)
    holder, found = find_run(cfg, [])
    assert holder.path == tmp_path / "mine" and found == manifest
    with pytest.raises(UserError, match="mine is in use by another training"):
        find_run(cfg, [])
    holder.close()
    assert find_run(cfg, [])[1] == manifest


def test_a_checkpoint_may_be_named_from_within_its_folder(tmp_path, monkeypatch):
    manifest = write_checkpoint(tmp_path / "outputs" / "run")
    cfg = config(tmp_path, "--resume", "yolov3-1_4.ckpt")
    monkeypatch.chdir(manifest.parent)
    folder, found = find_run(cfg, [])
    assert folder.path == tmp_path / "outputs" / "run" and found == manifest


def test_the_newest_run_of_this_model_is_resumed(tmp_path):
    notes = []
    write_checkpoint(tmp_path / "old", at=1000)
    wanted = write_checkpoint(tmp_path / "wanted", at=2000)
    write_checkpoint(tmp_path / "other", model="yolov4", at=3000)
    folder, manifest = find_run(config(tmp_path, "--resume", "auto"), notes)
    assert manifest == wanted and folder.path == tmp_path / "wanted"
    assert notes == [f"resume=auto: skipped {tmp_path / 'other'}, a run of yolov4"]


def test_without_a_checkpoint_of_this_model_a_new_run_begins(tmp_path):
    notes = []
    write_checkpoint(tmp_path / "other", model="yolov4")
    folder, manifest = find_run(config(tmp_path, "--resume", "auto"), notes)
    assert manifest is None and folder.path.parent == tmp_path and folder.path.name != "other"
    assert "has no intact checkpoint of yolov3; training starts anew" in notes[-1]
    named, manifest = find_run(config(tmp_path, "--resume", "auto", "--run_name", "new"), notes)
    assert manifest is None and named.path == tmp_path / "new"


def test_a_run_whose_checkpoints_are_damaged_gives_way_to_the_next(tmp_path):
    notes = []
    wanted = write_checkpoint(tmp_path / "wanted", at=2000)
    damaged = write_checkpoint(tmp_path / "damaged", at=3000)
    damaged.write_text("{}")
    os.utime(damaged, (3000, 3000))
    folder, manifest = find_run(config(tmp_path, "--resume", "auto"), notes)
    assert manifest == wanted and any("damaged" in note for note in notes)
    # It is free again.
    RunFolder(tmp_path / "damaged").close()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file.* cannot be written: Not a directory"):
        RunFolder(tmp_path / "file" / "run")
    with pytest.raises(UserError, match="cannot be created: Not a directory"):
        make_unique_folder(tmp_path / "file", "run")


def test_a_lock_that_says_nothing_is_a_lock_still(tmp_path):
    first = RunFolder(tmp_path / "run")
    (tmp_path / "run" / ".lock").write_text("")
    with pytest.raises(UserError, match="a process that has just started"):
        RunFolder(tmp_path / "run")
    first.close()
    with RunFolder(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / ".lock").read_text())["pid"] == os.getpid()


def test_where_files_cannot_be_locked_it_goes_on_with_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(handle, operation):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("msdet.folder_lock.fcntl.flock", refuse)
    with RunFolder(tmp_path / "run"):
        assert "has no locks" in caplog.text
