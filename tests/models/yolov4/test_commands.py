"""train.py, eval.py and test.py with a tiny YOLOv4 and a tiny dataset."""

import contextlib
import csv
import importlib.util
import io
import json
import re
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

import eval as evaluation
import train as training
from tests.in_process import run

pytestmark = pytest.mark.usefixtures("at_root")
ROOT = Path(__file__).resolve().parents[3]
NETWORK = ["--config", "configs/yolov4.yaml", "--num_classes", "0", "--testing_shape", "64",
           "--num_parallel_workers", "0", "--progress", "off"]  # fmt: skip
TRAIN = [
    *NETWORK, "--backbone_shape", "4,4,4,8,8,8", "--backbone_layers", "1,1,1,1,1", "--training_shape", "64",
    "--per_batch_size", "3", "--warmup_epochs", "0", "--log_interval", "1", "--max_epoch", "2",
    "--keep_empty_images", "1",
]  # fmt: skip

_spec = importlib.util.spec_from_file_location("entry_of_test_dev", ROOT / "test.py")
testing = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(testing)


def make_dataset(folder, names):
    """Six images of rectangles, the last one without; train and val are equal, test has no annotations."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for split in ("train", "val", "test"):
        (folder / split).mkdir(parents=True)
    for i in range(6):
        pixels = np.full((60, 80, 3), 90, np.uint8)
        for k in range(min(5 - i, len(names))):
            x, y = rng.integers(0, 40, 2).tolist()
            pixels[y : y + 20, x : x + 30] = (200, 60 * k, 40)
            annotations.append({"id": len(annotations) + 1, "image_id": i, "category_id": k + 3,
                                "bbox": [x, y, 30, 20], "area": 600, "iscrowd": 0})  # fmt: skip
        images.append({"id": i, "file_name": f"{i}.jpg", "width": 80, "height": 60})
        for split in ("train", "val", "test"):
            cv2.imwrite(str(folder / split / f"{i}.jpg"), pixels)
    categories = [{"id": k + 3, "name": name} for k, name in enumerate(names)]
    (folder / "annotations").mkdir()
    for split in ("train", "val"):
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(content))
    content = {"images": images, "categories": categories}
    (folder / "annotations" / "test.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "two", ["red", "blue"])


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    """Two epochs of two steps with mosaics, evaluated after the second one."""
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        where = ("--data_dir", dataset, "--ckpt_path", out, "--run_name", "run")
        how = ("--mosaic", 1, "--mosaic_probability", 0.9, "--label_smooth", 1)
        assert run(training.main, *TRAIN, *where, *how, "--run_eval", 1, "--eval_start_epoch", 2) == 0
    return out / "run"


def test_training_with_mosaics_evaluates_and_keeps_the_best(trained):
    names = {path.name for path in (trained / "ckpt_0").iterdir()}
    assert {"yolov4-1_2.ckpt", "yolov4-2_4.ckpt", "yolov4-best.ckpt", "yolov4-best.json"} <= names
    rows = (trained / "summary" / "eval.csv").read_text().splitlines()
    assert len(rows) == 2, "only from eval_start_epoch on"
    header, *steps = (trained / "summary" / "train.csv").read_text().splitlines()
    assert {"box", "confidence", "class"} <= set(header.split(",")) and len(steps) == 4
    card = json.loads((trained / "ckpt_0" / "yolov4-best.json").read_text())
    assert card["class_names"] == ["red", "blue"] and card["network"]["scale_x_y"] == [1.2, 1.1, 1.05]


def test_evaluation_with_images_and_thresholds(dataset, trained, tmp_path, capsys):
    weights = trained / "ckpt_0" / "yolov4-best.ckpt"
    flags = ("--data_dir", dataset, "--pretrained", weights, "--log_path", tmp_path, "--testing_shape", 96,
             "--per_batch_size", 4, "--result_view", 1, "--recommend_threshold", 1)  # fmt: skip
    assert run(evaluation.main, *NETWORK, *flags) == 0
    assert "coco eval reulst" in capsys.readouterr().out
    (folder,) = tmp_path.iterdir()
    assert len(list((folder / "pictures").glob("*.jpg"))) == 6
    with (folder / "thresholds" / "thresholds.csv").open() as file:
        assert [row[0] for row in csv.reader(file)] == ["class", "red", "blue"]
    assert "testing_shape: 96" in (folder / "config.yaml").read_text()


def result_of(tmp_path, dataset, trained, *flags):
    weights = trained / "ckpt_0" / "yolov4-best.ckpt"
    assert run(testing.main, *NETWORK, "--data_dir", dataset, "--pretrained", weights, *flags) == 0
    (folder,) = (tmp_path / "test" / "outputs").iterdir()
    return folder


def test_test_dev(dataset, trained, tmp_path, monkeypatch):
    for name in ("configs", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    folder = result_of(tmp_path, dataset, trained, "--test_ignore_threshold", 0)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_time_\d\d_\d\d_\d\d", folder.name)
    (predictions,) = folder.glob("predict_*.json")
    with zipfile.ZipFile(folder / "detections_test-dev2017_yolov4_results.zip") as archive:
        assert archive.namelist() == ["detections_test-dev2017_yolov4_results.json"]
        assert archive.read(archive.namelist()[0]) == predictions.read_bytes()
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO(str(dataset / "annotations" / "val.json"))
        loaded = reference.loadRes(str(predictions))
    assert set(loaded.getImgIds()) == set(range(6)) and len(loaded.anns) > 6
    assert {annotation["category_id"] for annotation in loaded.anns.values()} <= {3, 4}


def test_test_dev_on_modelarts(dataset, trained, tmp_path, capsys):
    """The results are where the message says; no score reaches the threshold, so there are no detections."""
    url, weights = tmp_path / "url", trained / "ckpt_0" / "yolov4-best.ckpt"
    job = ("--is_modelarts", "True", "--data_url", dataset, "--data_path", tmp_path / "data",
           "--output_path", tmp_path / "out", "--train_url", url)  # fmt: skip
    assert run(testing.main, *NETWORK, *job, "--pretrained", weights, "--test_ignore_threshold", 1) == 0
    assert f"results are in {url}" in capsys.readouterr().out
    (predictions,) = url.glob("*/predict_*.json")
    assert json.loads(predictions.read_text()) == []
    assert {path.name for path in predictions.parent.iterdir()} == {
        predictions.name, "detections_test-dev2017_yolov4_results.zip", "config.yaml", "log.txt",
    }  # fmt: skip


def test_test_dev_without_weights_or_images(dataset, tmp_path, capsys):
    assert run(testing.main, *NETWORK, "--data_dir", dataset, "--log_path", tmp_path) == 2
    assert "--pretrained" in capsys.readouterr().err


def test_other_classes_need_filter_weight(trained, tmp_path, capsys):
    data = make_dataset(tmp_path / "three", ["red", "blue", "green"])
    weights = trained / "ckpt_0" / "yolov4-best.ckpt"
    flags = ("--data_dir", data, "--ckpt_path", tmp_path / "out", "--pretrained", weights, "--max_epoch", 1)
    assert run(training.main, *TRAIN, *flags) == 1
    message = capsys.readouterr().err
    assert "--filter_weight" in message and "Traceback" not in message
    # Without mosaics; PyNative saves compiling for two steps.
    assert run(training.main, *TRAIN, *flags, "--filter_weight", "True", "--mode", "pynative") == 0
    printed = capsys.readouterr().out
    dropped = [f"block{stride}.predict.{part}" for stride in (8, 16, 32) for part in ("weight", "bias")]
    assert "6 tensors keep their initialization" in printed and all(name in printed for name in dropped)
    (weights,) = (tmp_path / "out").rglob("yolov4-1_2.ckpt")
    assert json.loads(weights.with_suffix(".json").read_text())["class_names"] == ["red", "blue", "green"]
