"""Real pictures in every form of annotations: read, trained for a few steps, and scored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import train as training
from msdet.config import load_config
from msdet.data.formats.coco.write import coco_of, write_coco
from msdet.data.formats.mindrecord.write import write_mindrecord
from msdet.errors import run_command
from msdet.session.datasets import open_dataset, read_files
from tests.data import all_formats as formats

pytestmark = pytest.mark.usefixtures("at_root")
ROOT = Path(__file__).resolve().parents[1]
COMMON = [
    "--class_names=", "--num_classes=0", "--num_parallel_workers=0", "--warmup_epochs=0", "--progress=off",
    "--log_interval=1", "--max_epoch=1", "--per_batch_size=4",
]  # fmt: skip
YOLO = ["--training_shape=64", "--testing_shape=64", "--backbone_shape=4,8,8,16,16,16", "--backbone_layers=1,1,1,1,1"]
MODELS = {
    "yolov3": ["--config=configs/yolov3_shapes.yaml", *YOLO],
    "yolov4": ["--config=configs/yolov4.yaml", *YOLO],
    "efficientdet_d0": [
        "--config=configs/efficientdet_d0.yaml", "--label_map=dense", "--training_shape=128", "--testing_shape=128",
        "--backbone_shape=8,4,4,8,8,8,8,16", "--backbone_layers=1,1,1,1,1,2,1", "--pyramid_channels=8",
        "--pyramid_repeats=1", "--head_repeats=1",
    ],
    "refinedet": [
        "--config=configs/refinedet_vgg16_320.yaml", "--testing_shape=64", "--backbone_shape=8,8,8,8,8,16",
        "--backbone_layers=1,1,1,1,1", "--pyramid_channels=8", "--learn_difficult=1",
    ],
}  # fmt: skip
TINY = [*MODELS["yolov3"], *COMMON]


def _voc(data_dir, folder):
    return [f"--data_dir={data_dir}/voc_mini", "--train_ann_file=ImageSets/Main/test.txt"]


def _samples(data_dir):
    return read_files(load_config(TINY[0][9:], [*TINY[1:], f"--data_dir={data_dir}/voc_mini"]), "val")


def _txt(data_dir, folder):
    lines = []
    for sample in _samples(data_dir).samples:
        rows = zip(sample.boxes.tolist(), sample.labels.tolist(), strict=True)
        boxes = " ".join(",".join(f"{value:g}" for value in (*box, label)) for box, label in rows)
        lines.append(f"JPEGImages/{sample.image_path.name} {boxes}")
    for split in ("train", "val"):
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
    images = data_dir / "voc_mini"
    return ["--dataset=other", f"--anno_path={folder}/train.txt", f"--val_ann_file={folder}/val.txt",
            f"--image_dir={images}", f"--val_image_dir={images}"]  # fmt: skip


def _yolo(data_dir, folder):
    for name in ("images", "labels"):
        (folder / name / "train").mkdir(parents=True)
    dataset = _samples(data_dir)
    for sample in dataset.samples:
        (folder / "images" / "train" / sample.image_path.name).symlink_to(sample.image_path)
        rows = zip(sample.boxes.tolist(), sample.labels.tolist(), strict=True)
        lines = formats.yolo_lines((sample.width, sample.height), [(*box, label) for box, label in rows])
        (folder / "labels" / "train" / f"{sample.image_path.stem}.txt").write_text(lines)
    names = json.dumps(dataset.class_names)
    (folder / "data.yaml").write_text(f"train: images/train\nval: images/train\nnames: {names}\n")
    return [f"--data_dir={folder}"]


def _mindrecord(data_dir, folder):
    for split in ("train", "val"):
        write_mindrecord(_samples(data_dir), folder, split)
    return [f"--data_dir={folder}"]


def _coco(data_dir, folder):
    for split in ("train", "val"):
        write_coco(coco_of(_samples(data_dir)), folder / f"{split}.json")
    images = f"{data_dir}/voc_mini"
    return [f"--train_ann_file={folder}/train.json", f"--train_image_dir={images}",
            f"--val_ann_file={folder}/val.json", f"--val_image_dir={images}"]  # fmt: skip


FORMS = {"voc": _voc, "coco": _coco, "txt": _txt, "yolo": _yolo, "mindrecord": _mindrecord}


@pytest.mark.parametrize("form", FORMS)
def test_real_pictures_are_read_alike(data_dir, tmp_path, form):
    cfg = load_config(TINY[0][9:], [*TINY[1:], *FORMS[form](data_dir, tmp_path)])
    dataset, _ = open_dataset(cfg, "train")
    assert (dataset.format, len(dataset), dataset.report.boxes) == (form, 19, 57)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_all_forms_train_alike(data_dir, tmp_path, model):
    """The same pictures in five forms give the same losses, and are scored."""
    losses = {}
    for form, make in FORMS.items():
        folder = tmp_path / form
        folder.mkdir()
        flags = [*make(data_dir, folder), f"--ckpt_path={tmp_path}/out", f"--run_name={form}", "--run_eval=1"]
        assert run_command(training.main, [*MODELS[model], *COMMON, *flags]) == 0
        text = (tmp_path / "out" / form / "log.txt").read_text()
        losses[form] = [float(line.split("loss:")[1].split(",")[0]) for line in text.splitlines() if "loss:" in line]
        assert len((tmp_path / "out" / form / "summary" / "eval.csv").read_text().splitlines()) == 2
    assert len(losses["voc"]) == 4 and np.isfinite(losses["voc"]).all()
    assert losses["txt"] == losses["mindrecord"] == losses["voc"]
    # Widths and heights, and shares of the picture, are rounded once more.
    assert losses["coco"] == pytest.approx(losses["voc"], rel=1e-3)
    assert losses["yolo"] == pytest.approx(losses["voc"], rel=1e-3)


@pytest.mark.slow
def test_two_processes_make_mindrecord_files_once(tmp_path):
    root, folder = formats.write_voc(tmp_path / "voc"), tmp_path / "records"
    code = (
        "import sys; from msdet.config import load_config; from msdet.session.datasets import open_dataset; "
        "print(len(open_dataset(load_config(sys.argv[1], sys.argv[2:]), 'train')[0]))"
    )
    command = [sys.executable, "-c", code, TINY[0][9:], *TINY[1:], f"--data_dir={root}", f"--mindrecord_dir={folder}"]
    started = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src")))},
        )
        for _ in range(2)
    ]
    assert [process.communicate(timeout=300)[0].split()[-1] for process in started] == [b"3", b"3"]
    assert [path.name for path in folder.iterdir()] == ["train"]
