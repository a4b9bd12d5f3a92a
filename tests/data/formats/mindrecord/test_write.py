"""Writing MindRecord files: atomically, and never over existing files."""

import json
from dataclasses import replace

import numpy as np
import pytest

from msdet.data.formats.mindrecord import write as mindrecord_writer
from msdet.data.formats.mindrecord.read import shard_paths
from msdet.data.formats.mindrecord.write import write_mindrecord
from msdet.errors import UserError
from msdet.folder_lock import FolderLock


def test_mindspore_reads_the_files_too(files, made):
    from mindspore.dataset import MindDataset

    rows = MindDataset([str(path) for path in shard_paths(made / "train", "train")], shuffle=False)
    found = {str(row["file_name"]): row for row in rows.create_dict_iterator(num_epochs=1, output_numpy=True)}
    assert len(found) == len(files)
    for sample in files.samples:
        row = found[sample.image_path.name]
        assert row["image"].tobytes() == sample.image_path.read_bytes()
        assert json.loads(str(row["image_id"])) == sample.image_id
        if len(sample.boxes):
            np.testing.assert_array_equal(row["annotation"][:, :4], sample.boxes)
            np.testing.assert_array_equal(row["annotation"][:, 4], sample.labels)
        else:
            assert row["annotation"].tolist() == [[0, 0, 0, 0, -1]]


def test_shards_are_flushed_to_disk_before_they_are_renamed(files, tmp_path, monkeypatch):
    forced = {}
    monkeypatch.setattr(mindrecord_writer, "sync_to_disk", lambda p: forced.update({p: (tmp_path / "train").exists()}))
    write_mindrecord(files, tmp_path, "train", shards=2)
    assert forced.pop(tmp_path) is True
    assert not any(forced.values())
    assert {path.name for path in (tmp_path / "train").iterdir()} < {path.name for path in forced}


def test_existing_files_are_never_overwritten(files, made):
    with pytest.raises(UserError, match="already exists"):
        write_mindrecord(files, made, "train")


def test_nothing_remains_after_a_failure(files, tmp_path, monkeypatch):
    # Of a process that was killed: what it held is free.
    FolderLock(tmp_path / ".train.999999999").close()
    samples = [*files.samples, replace(files.samples[0], image_path=files.image_dir / "absent.jpg")]
    with pytest.raises(UserError, match="absent.jpg"):
        write_mindrecord(replace(files, samples=samples), tmp_path, "train")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("msdet.data.formats.mindrecord.read.MindRecordStore.read", lambda *_: b"other")
    with pytest.raises(UserError, match="differs after writing"):
        write_mindrecord(files, tmp_path, "train")
    assert list(tmp_path.iterdir()) == []


def test_files_that_another_process_is_writing_are_kept(files, tmp_path, monkeypatch):
    """On this machine or another, whose processes this one does not see."""
    with FolderLock(tmp_path / ".train.4194305") as held:
        (held.path / "train.mindrecord0").write_bytes(b"half")
        (tmp_path / ".train.4194306").mkdir()  # it has just been made, and is about to be locked
        write_mindrecord(files, tmp_path, "train", shards=2)
        assert {path.name for path in tmp_path.iterdir()} == {".train.4194305", ".train.4194306", "train"}
        assert (held.path / "train.mindrecord0").read_bytes() == b"half"
    assert not (tmp_path / "train" / ".lock").exists()

    def no_locks(handle, operation):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("msdet.folder_lock.fcntl.flock", no_locks)
    with pytest.raises(UserError, match="absent.jpg"):
        samples = [replace(files.samples[0], image_path=files.image_dir / "absent.jpg")]
        write_mindrecord(replace(files, samples=samples), tmp_path / "other", "train")
    write_mindrecord(files, tmp_path, "val", shards=2)
    assert (tmp_path / ".train.4194305").exists()
