"""Reading MindRecord files: the same dataset as from separate files, and messages for damaged files."""

import itertools
import json
import os
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest

from msdet.data.build_dataset import build_dataset
from msdet.data.formats.coco.read import read_coco
from msdet.data.formats.coco.write import coco_of
from msdet.data.formats.format import SourceOptions
from msdet.data.formats.mindrecord.read import fingerprint, load_mindrecord, read_info
from msdet.data.formats.mindrecord.write import write_mindrecord
from msdet.data.loading.loaders import detection_loader
from msdet.data.open import load_annotations
from msdet.data.read_options import ReadOptions
from msdet.data.transforms.pipeline import jitter_pipeline
from msdet.errors import UserError


def read(folder):
    return build_dataset(load_annotations(SourceOptions(str(folder)), "train"), ReadOptions())


def message(folder):
    with pytest.raises(UserError) as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_samples_and_images_equal_those_of_the_files(files, made):
    dataset = read(made)
    assert dataset.format == "mindrecord"
    assert (dataset.class_names, dataset.category_ids) == (files.class_names, files.category_ids)
    assert fingerprint(dataset) == fingerprint(files) == read_info(made / "train", "train")["fingerprint"]
    for ours, theirs in zip(dataset.samples, files.samples, strict=True):
        assert (ours.image_id, ours.width, ours.height) == (theirs.image_id, theirs.width, theirs.height)
        for name in ("boxes", "labels", "iscrowd", "difficult"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
        assert dataset.image_bytes(ours) == theirs.image_path.read_bytes()
    np.testing.assert_array_equal(coco_of(dataset)["annotations"], coco_of(files)["annotations"])


@pytest.mark.parametrize("workers", [0, 2])
def test_training_sees_the_same_batches(files, made, workers):
    sides = [files, read(made)]
    loaders = [
        detection_loader(side, jitter_pipeline(), 4, [(64, 64)], training=True, num_workers=number)
        for side, number in zip(sides, (0, workers), strict=True)
    ]
    with loaders[0], loaders[1]:
        pairs = zip(loaders[0].epoch(1), loaders[1].epoch(1), strict=True)
        for ours, theirs in itertools.islice(pairs, 3):
            for one, other in zip(ours.arrays().values(), theirs.arrays().values(), strict=True):
                np.testing.assert_array_equal(one, other)
            assert ours.image_ids == theirs.image_ids


def test_string_ids_crowds_areas_and_folders_are_kept(coco, tmp_path):
    coco.add_image("kitchen/7", file_name="sub/a b.jpg", boxes=[[1, 1, 5, 5]])
    coco.add_box("kitchen/7", [10, 10, 20.25, 5], iscrowd=1, area=33.5)
    files = read_coco(*coco.write())
    write_mindrecord(files, tmp_path / "out", "train")
    dataset = read(tmp_path / "out")
    assert dataset.samples[0].image_id == "kitchen/7"
    assert dataset.samples[0].iscrowd.tolist() == [False, True]
    assert [entry["area"] for entry in coco_of(dataset)["annotations"]] == [25, 33.5]
    again = pickle.loads(pickle.dumps(dataset))
    assert again.image_bytes(again.samples[0]) == files.samples[0].image_path.read_bytes()


def test_a_changed_annotation_changes_the_fingerprint(files):
    changed = replace(files.samples[3], boxes=files.samples[3].boxes + 1)
    assert fingerprint(files) != fingerprint(replace(files, samples=[*files.samples[:3], changed, *files.samples[4:]]))
    assert fingerprint(files) != fingerprint(replace(files, class_names=["cat", "cow"]))


def test_a_shard_is_missing(copy):
    (copy / "train" / "train.mindrecord1").unlink()
    assert "contains 1 of 3 shards: the set is incomplete" in message(copy)


def test_an_index_is_missing(copy):
    (copy / "train" / "train.mindrecord1.db").unlink()
    assert "train.mindrecord1.db, the index of train.mindrecord1, is missing" in message(copy)


def test_an_index_is_damaged(copy):
    (copy / "train" / "train.mindrecord1.db").write_bytes(b"no database at all" * 100)
    assert "or its index is damaged (file is not a database)" in message(copy)


def test_a_shard_is_truncated(copy):
    path = copy / "train" / "train.mindrecord0"
    os.truncate(path, path.stat().st_size // 2)
    assert "train.mindrecord0 is truncated before its image" in message(copy)


def test_a_shard_of_another_format(copy):
    (copy / "train" / "train.mindrecord0").write_bytes(b"\x05")
    assert "train.mindrecord0 or its index is damaged" in message(copy)


def test_a_flipped_byte_is_detected(copy):
    path = copy / "train" / "train.mindrecord0"
    content, store = load_mindrecord(copy / "train", "train")
    name = next(name for name, place in store.rows.items() if place[0] == 0)
    data = bytearray(path.read_bytes())
    data[store.rows[name][1] + 50] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"{name} in .*train.mindrecord0 is damaged"):
        store.read(copy / "train" / name)


def test_annotations_are_missing_or_of_another_set(copy):
    path = copy / "train" / "train.json"
    content = json.loads(path.read_text())
    path.unlink()
    assert "contains MindRecord files without train.json: another program wrote them" in message(copy)
    path.write_text("{}")
    assert "has an unknown format version" in message(copy)
    content["images"] = content["images"][1:]
    path.write_text(json.dumps(content))
    assert "lists 22 images, the shards contain 23" in message(copy)
    path.write_text("{")
    assert "train.json cannot be read" in message(copy)


@pytest.mark.parametrize("name", ["records #1", "which?", "set 100%", "a%25b", "a%3Fb", "a&b=c;d"])
def test_a_folder_may_have_any_name(made, files, tmp_path, name):
    folder = shutil.copytree(made, tmp_path / name)
    assert fingerprint(read(folder)) == fingerprint(files)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_relative_folder_is_read(made, files, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "records #2")
    monkeypatch.chdir(tmp_path)
    assert fingerprint(read("records #2")) == fingerprint(files)
