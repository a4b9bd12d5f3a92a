"""MindRecord files of the old model zoo are rejected by name, and never replaced silently."""

import json

import numpy as np
import pytest
from mindspore.mindrecord import FileWriter

import eval as evaluation
import train
from msdet.config import load_config
from msdet.runtime import modelarts
from msdet.tools import create_data
from tests.data import all_formats as formats
from tests.in_process import run

EFFICIENTDET = ("EfficientDet.mindrecord", 8, {"annotation": {"type": "float32", "shape": [-1, 5]}}, np.float32)
REFINEDET = (
    "refinedet.mindrecord", 8,
    {"img_id": {"type": "int64", "shape": [1]}, "annotation": {"type": "int32", "shape": [-1, 5]}}, np.int32,
)  # fmt: skip
REFINEDET_EVAL = ("refinedet_eval.mindrecord", 1, *REFINEDET[2:])
OTHER = ("boxes.mindrecord", 2, *EFFICIENTDET[2:])


def write(folder, name, shards, columns, kind):
    """Writes files with the names and columns of the old zoo."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = FileWriter(str(folder / name), shards)
    writer.add_schema({"image": {"type": "bytes"}, **columns}, "old")
    for number in range(8):
        row = {"image": b"jpeg", "annotation": np.array([[1, 1, 5, 5, 2]], kind)}
        if "img_id" in columns:
            row["img_id"] = np.array([number], np.int64)
        writer.write_raw_data([row])
    writer.commit()
    return folder


@pytest.fixture
def data(tmp_path):
    return formats.write_voc(tmp_path / "voc")


FLAGS = ["--config", "configs/efficientdet_d0.yaml", "--label_map=dense", "--num_classes=0", "--class_names="]
CASES = [
    (
        EFFICIENTDET,
        "of the old model zoo's EfficientDet (EfficientDet.mindrecord0, EfficientDet.mindrecord1 and 6 more)",
    ),
    (REFINEDET, "of the old model zoo's RefineDet (refinedet.mindrecord0,"),
    (REFINEDET_EVAL, "of the old model zoo's RefineDet (refinedet_eval.mindrecord)"),
    (OTHER, "of another program (boxes.mindrecord0, boxes.mindrecord1)"),
]


@pytest.mark.parametrize(("kind", "message"), CASES)
@pytest.mark.parametrize(
    ("command", "flags"),
    [
        (train.main, ["--ckpt_path={tmp}/runs", "--data_dir={tmp}/voc", "--mindrecord_dir={tmp}/old"]),
        (train.main, ["--ckpt_path={tmp}/runs", "--dataset=mindrecord", "--mindrecord_dir={tmp}/old"]),
        (train.main, ["--ckpt_path={tmp}/runs", "--data_dir={tmp}/old"]),
        (evaluation.main, ["--log_path={tmp}/runs", "--data_dir={tmp}/voc", "--mindrecord_dir={tmp}/old",
                           "--detections=none.json"]),
        (create_data.main, ["--data_dir={tmp}/voc", "--mindrecord_dir={tmp}/old"]),
        (create_data.main, ["--data_dir={tmp}/old", "--to=coco", "--output={tmp}/out"]),
    ],
)  # fmt: skip
def test_a_folder_of_the_old_zoo_is_rejected_by_name(tmp_path, capsys, data, kind, message, command, flags):
    folder = write(tmp_path / "old", *kind)
    before = sorted(folder.iterdir())
    assert run(command, *FLAGS, *[flag.format(tmp=tmp_path) for flag in flags]) == 1
    error = capsys.readouterr().err
    assert f"error: {folder} contains MindRecord files {message}" in error
    assert "with --mindrecord_dir a folder without these files" in error
    assert sorted(folder.iterdir()) == before


def test_they_are_ignored_next_to_files_of_msdet(tmp_path, data, capsys):
    folder = tmp_path / "records"
    assert run(create_data.main, *FLAGS, f"--data_dir={data}", f"--mindrecord_dir={folder}", "--splits=train") == 0
    write(folder, *EFFICIENTDET)
    assert run(create_data.main, *FLAGS, f"--data_dir={data}", f"--mindrecord_dir={folder}", "--splits=val") == 0
    assert "verified by reading them back" in capsys.readouterr().out


def test_they_are_ignored_next_to_images_and_annotations(tmp_path, data):
    write(data, *REFINEDET)
    assert run(create_data.main, *FLAGS, f"--data_dir={data}", "--to=coco", f"--output={tmp_path}/out") == 0
    assert json.loads((tmp_path / "out" / "train.json").read_text())["images"]


def test_classification_rejects_them_too(tmp_path, capsys):
    folder = write(tmp_path / "old", *EFFICIENTDET)
    for flag in (f"--data_dir={folder}", f"--mindrecord_dir={folder}"):
        flags = ["--config", "configs/darknet53_imagenet.yaml", f"--ckpt_path={tmp_path}/runs", "--dataset=mindrecord"]
        assert run(train.main, *flags, flag) == 1
        assert "of the old model zoo's EfficientDet" in capsys.readouterr().err


def test_modelarts_uses_the_folder_as_data_dir(tmp_path):
    write(tmp_path, *EFFICIENTDET)
    assert modelarts._data_keys(load_config(FLAGS[1]), tmp_path) == {"data_dir": str(tmp_path)}
