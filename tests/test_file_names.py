"""Files, folders and classes whose names are no UTF-8 pass through every command, and are read back."""

import csv
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import eval as evaluation
import msdet.inference.predict as predict_module
import predict as prediction
from msdet.config import load_config
from msdet.data.formats.mindrecord.read import fingerprint
from msdet.evaluation.detection_table import read_detections
from msdet.evaluation.result_file import DetectionWriter
from msdet.ops.postprocess import Detections
from msdet.runtime.start import Runtime, start_logging
from msdet.session.datasets import open_dataset
from msdet.tools import browse, create_data
from msdet.tools.check import check
from tests.bad_inputs import workspace
from tests.data import all_formats as formats
from tests.data.conftest import CocoFolder
from tests.in_process import run
from tests.inference.test_predict import FindsBrightness

pytestmark = pytest.mark.usefixtures("at_root")
ROOT = Path(__file__).resolve().parents[1]
NAME = os.fsdecode(b"caf\xe9")
BASE = ("--config=configs/yolov3_shapes.yaml", "--class_names=", "--num_classes=0")


def move(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
    except OSError as error:
        pytest.skip(f"this file system takes UTF-8 alone: {error}")


def noise_image(path, seed=0):
    """An image file; OpenCV itself cannot write to such a name."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(workspace.encode(workspace.noise_image(seed)))
    except OSError as error:
        pytest.skip(f"this file system takes UTF-8 alone: {error}")


@pytest.fixture
def yolo(tmp_path):
    """A data set in a folder of such a name, with an image of such a name."""
    root = tmp_path / f"{NAME} data"
    for split in ("train", "val"):
        for seed, name in enumerate((NAME, "b", "c")):
            noise_image(root / "images" / split / f"{name}.jpg", seed + len(split))
            (root / "labels" / split).mkdir(parents=True, exist_ok=True)
            (root / "labels" / split / f"{name}.txt").write_text("0 0.5 0.5 0.5 0.5\n1 0.3 0.3 0.4 0.4\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [red, blue]\n")
    return root


def opened(*flags, split="train"):
    return open_dataset(load_config(BASE[0][9:], [*BASE[1:], *map(str, flags)]), split)[0]


def names_of(dataset):
    return sorted(os.fsencode(sample.image_path.name) for sample in dataset.samples)


NAMES = [b"b.jpg", b"c.jpg", b"caf\xe9.jpg"]


def test_annotations_are_converted_and_read_back(yolo, tmp_path):
    source = opened(f"--data_dir={yolo}")
    assert names_of(source) == NAMES
    out = tmp_path / NAME
    assert run(create_data.main, *BASE, f"--data_dir={yolo}", "--to=coco", f"--output={out}/coco") == 0
    text = (out / "coco" / "train.json").read_text(encoding="utf-8")
    assert "caf\\udce9.jpg" in text
    read = opened(f"--train_ann_file={out}/coco/train.json", f"--train_image_dir={yolo}/images/train")
    assert fingerprint(read) == fingerprint(source)
    assert run(create_data.main, *BASE, f"--data_dir={yolo}", f"--mindrecord_dir={out}/records") == 0
    records = opened(f"--data_dir={out}/records")
    assert fingerprint(records) == fingerprint(source)
    for sample, original in zip(records.samples, source.samples, strict=True):
        assert records.image_bytes(sample) == original.image_path.read_bytes()


def test_a_mindrecord_folder_may_have_any_letters(tmp_path):
    """Its index is opened by an address, in which they mean something."""
    root = formats.write_voc(tmp_path / "voc")
    folder = tmp_path / "a#b?c%25d e"
    assert run(create_data.main, *BASE, f"--data_dir={root}", f"--mindrecord_dir={folder}", "--splits=train") == 0
    assert len(opened(f"--data_dir={folder}")) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a#b?c%25d e", "voc"]


def test_check_names_them_and_writes_cleaned_annotations(yolo, tmp_path, capsys):
    label = yolo / "labels" / "train" / f"{NAME}.txt"
    label.write_text(label.read_text() + "0 0.5 0.5 0 0.5\n")
    out = tmp_path / NAME
    flags = (f"--json={out}/c.json", f"--html={out}/c.html", f"--fix={out}/fixed")
    assert run(check.main, *BASE, f"--data_dir={yolo}", *flags) == 1
    assert "caf\\udce9.txt:3" in capsys.readouterr().out
    found = json.loads((out / "c.json").read_text(encoding="utf-8"))["splits"][0]["findings"]
    assert any(f"{NAME}.txt:3" in finding["text"] for finding in found)
    (out / "c.html").read_text(encoding="utf-8")
    changes = (out / "fixed" / "train.changes.jsonl").read_text(encoding="utf-8").splitlines()
    assert NAME in json.loads(changes[0])["text"]
    fixed = opened(f"--train_ann_file={out}/fixed/train.json", f"--train_image_dir={yolo}/images/train")
    assert names_of(fixed) == NAMES and fixed.report.boxes == 6


def test_browse_draws_them(yolo, tmp_path):
    flags = (f"--data_dir={yolo}", "--training_shape=64", "--count=3", f"--output={tmp_path}/{NAME}")
    assert run(browse.main, *BASE, *flags) == 0
    assert len(list((tmp_path / NAME).iterdir())) == 1


def test_detections_on_them_are_scored(yolo, tmp_path, capsys):
    dataset = opened(f"--data_dir={yolo}", split="val")
    out = tmp_path / NAME
    with DetectionWriter(out / "found.json", dataset.category_ids) as writer:
        for sample in dataset.samples:
            writer.write(sample.image_id, Detections(sample.boxes, np.float32([0.9, 0.8]), sample.labels))
    (out / "found.json").read_text(encoding="utf-8")
    assert {os.fsencode(image_id) for image_id in read_detections(out / "found.json").image_ids} == set(NAMES)
    flags = (f"--data_dir={yolo}", f"--detections={out}/found.json", f"--log_path={out}", "--draw_images=3")
    assert run(evaluation.main, "--config=configs/yolov3.yaml", "--num_classes=0", *flags) == 0
    assert "area=   all | maxDets=100 ] = 1.000" in capsys.readouterr().out
    (log,) = out.glob("eval_*/log.txt")
    assert "caf\\udce9 data" in log.read_text(encoding="utf-8")
    assert NAME + ".jpg" in {path.name for path in out.glob("eval_*/pictures/*")}


@pytest.mark.parametrize("letters", ["utf-8", "latin-1", "ascii"])
def test_classes_of_any_letters_are_printed_and_tabled(tmp_path, letters):
    """On any screen; what it lacks is escaped."""
    names = [NAME, "猫", "собака", "Tür $x{y} %"]
    folder = CocoFolder(tmp_path / "data")
    folder.content["categories"] = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    folder.add_image(1)
    for number in range(1, 5):
        folder.add_box(1, [number, number, 20, 20], number)
    folder.write()
    found = [{**entry, "score": 0.9} for entry in folder.content["annotations"]]
    (tmp_path / "found.json").write_text(json.dumps(found))
    command = [sys.executable, "eval.py", "--config=configs/yolov3.yaml", "--num_classes=0",
               f"--val_ann_file={folder.ann_file}", f"--detections={tmp_path}/found.json",
               f"--log_path={tmp_path}/out"]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONIOENCODING": letters}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode(letters)
    text = (done.stdout + done.stderr).decode(letters)
    assert "Logging error" not in text and "Traceback" not in text
    for name in names:
        assert name.encode(letters, "backslashreplace").decode(letters) in text
    (table,) = (tmp_path / "out").glob("*/per_class.csv")
    with table.open(encoding="utf-8", newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["class", "caf\\udce9", *names[1:]]


def test_log_files_hold_them(tmp_path, capsys):
    start_logging(tmp_path / "log.txt")
    logging.getLogger("x").warning("image %s is missing", NAME)
    for handler in logging.getLogger().handlers[:]:
        logging.getLogger().removeHandler(handler)
        handler.close()
    assert "image caf\\udce9 is missing" in (tmp_path / "log.txt").read_text(encoding="utf-8")


def test_ranks_agree_on_them():
    assert Runtime("CPU").on_master(lambda: NAME) == NAME


@pytest.fixture
def runner(monkeypatch):
    stand_in = FindsBrightness()
    monkeypatch.setattr(predict_module, "open_runner", lambda *_: stand_in)
    return stand_in


def predicted(source, output, *flags):
    base = ("--config=configs/yolov3.yaml", "--num_classes=0", "--pretrained=w.ckpt", "--testing_shape=64")
    assert run(prediction.main, *base, f"--source={source}", f"--output={output}", *flags) == 0
    return json.loads((output / "predictions.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("source", ["", "*.jpg", f"{NAME}.jpg"])
def test_pictures_are_predicted(runner, tmp_path, source):
    for seed, name in enumerate(("a", NAME, "z")):
        noise_image(tmp_path / NAME / f"{name}.jpg", seed)
    runner.card = {"class_names": [NAME, "dog"], "num_classes": 2}
    records = predicted(tmp_path / NAME / source, tmp_path / "out" / NAME)
    assert len(records) == (1 if source == f"{NAME}.jpg" else 3)
    files = [os.fsencode(record["file"]) for record in records]
    assert os.fsencode(tmp_path / NAME / f"{NAME}.jpg") in files
    assert {entry["class"] for record in records for entry in record["detections"]} == {NAME, "dog"}
    assert (tmp_path / "out" / NAME / f"{NAME}.jpg").is_file()


def test_a_video_is_predicted(runner, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "v.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 64))
    for i in range(5):
        writer.write(np.full((64, 96, 3), i * 30, np.uint8))
    writer.release()
    move(tmp_path / "v.mp4", tmp_path / NAME / f"{NAME}.mp4")
    records = predicted(tmp_path / NAME / f"{NAME}.mp4", tmp_path / "out" / NAME)
    assert [record["frame"] for record in records] == list(range(5))
    assert sorted(path.name for path in (tmp_path / "out" / NAME).iterdir()) == [f"{NAME}.mp4", "predictions.json"]
    move(tmp_path / "out" / NAME / f"{NAME}.mp4", tmp_path / "again.mp4")
    assert int(cv2.VideoCapture(str(tmp_path / "again.mp4")).get(cv2.CAP_PROP_FRAME_COUNT)) == 5


def _txt_list(root):
    formats.write_txt(root)
    move(root / "images" / "a.jpg", root / "images" / f"{NAME}.jpg")
    path = root / "train.txt"
    path.write_bytes(path.read_bytes().replace(b"a.jpg", b"caf\xe9.jpg"))
    return f"--data_dir={root}", "--train_ann_file=train.txt"


def _yolo_list(root):
    formats.write_yolo(root, yaml="train: list.txt\nval: list.txt\n")
    for folder, suffix in (("images", "jpg"), ("labels", "txt")):
        move(root / folder / "train" / f"a.{suffix}", root / folder / "train" / f"{NAME}.{suffix}")
    lines = b"".join(b"images/train/%s.jpg\n" % name for name in (b"caf\xe9", b"b", b"c d"))
    (root / "list.txt").write_bytes(lines)
    return (f"--data_dir={root}",)


def _voc_list(root):
    formats.write_voc(root)
    for folder, suffix in (("JPEGImages", "jpg"), ("Annotations", "xml")):
        move(root / folder / f"a.{suffix}", root / folder / f"{NAME}.{suffix}")
    (root / "ImageSets" / "Main" / "train.txt").write_bytes(b"caf\xe9\nb\nc_d\n")
    return (f"--data_dir={root}",)


@pytest.mark.parametrize("write", [_txt_list, _yolo_list, _voc_list])
def test_lists_name_them_by_their_bytes(tmp_path, write):
    dataset = opened(*write(tmp_path / "data"))
    assert b"caf\xe9.jpg" in names_of(dataset)
    assert len(dataset) == 3 and dataset.report.boxes == 3
    for sample in dataset.samples:
        dataset.decode(sample)


def test_charts_name_them(tmp_path):
    from msdet.evaluation.analysis import ClassCurve, _draw
    from msdet.evaluation.classification import ClassResult, report_classes

    labels = np.int32([0, 1])
    report_classes(ClassResult([NAME, "dog"], labels, labels, np.int32([0, 0])), tmp_path)
    assert (tmp_path / "confusion.csv").read_text(encoding="utf-8").splitlines()[0] == "true class,caf\\udce9,dog"
    curve = ClassCurve(NAME, 1, np.float32([0.9]), np.array([True]))
    _draw(curve, curve.best(), tmp_path / "curve.png")
    assert {path.name for path in tmp_path.glob("*.png")} == {"confusion.png", "curve.png"}
