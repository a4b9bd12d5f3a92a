"""The commands train and eval on a tiny dataset: training, resuming, evaluation, and messages for invalid input."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import eval as evaluation
import train as training
from msdet.checkpoints.state import checkpoints_in, load_snapshot
from tests.in_process import run

pytestmark = pytest.mark.usefixtures("at_root")
ROOT = Path(__file__).resolve().parents[1]
TINY = [
    "--config", "configs/yolov3_shapes.yaml", "--training_shape", "64", "--testing_shape", "64",
    "--backbone_shape", "4,8,8,16,16,16", "--backbone_layers", "1,1,1,1,1", "--per_batch_size", "4",
    "--num_parallel_workers", "0", "--warmup_epochs", "0", "--progress", "off", "--log_interval", "1",
    "--lr", "0.02", "--ckpt_interval", "1", "--eval_start_epoch", "1", "--eval_interval", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Ten images with coloured rectangles, the same for train and val."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(10):
        image = np.full((60, 80, 3), 90, np.uint8)
        for k in range(i % 3):
            x, y, w, h = int(rng.integers(0, 40)), int(rng.integers(0, 30)), 24, 20
            image[y : y + h, x : x + w] = (200, 60, 40) if k else (40, 60, 200)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": i, "category_id": k + 3, "bbox": [x, y, w, h],
                 "area": w * h, "iscrowd": 0}
            )  # fmt: skip
        images.append({"id": i, "file_name": f"{i}.jpg", "width": 80, "height": 60})
        for split in ("train", "val"):
            (folder / split).mkdir(exist_ok=True)
            cv2.imwrite(str(folder / split / f"{i}.jpg"), image)
    coco = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 3, "name": "red"}, {"id": 4, "name": "blue"}],
    }
    (folder / "annotations").mkdir()
    for split in ("train", "val"):
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(coco))
    return folder


def train(dataset, out, *args):
    return run(training.main, *TINY, "--data_dir", dataset, "--ckpt_path", out, *args)


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    """A run of two epochs of two steps, evaluated after each epoch."""
    out = tmp_path_factory.mktemp("out")
    assert train(dataset, out, "--run_name", "whole", "--max_epoch", 2, "--run_eval", 1, "--ema_decay", 0.9) == 0
    return out / "whole"


def test_a_run_writes_the_documented_files(trained):
    names = sorted(p.name for p in (trained / "ckpt_0").iterdir())
    steps = [f"yolov3-{e}_{2 * e}{s}" for e in (1, 2) for s in (".ckpt", ".json", ".state.ckpt", ".state.json")]
    assert names == sorted([*steps, "yolov3-best.ckpt", "yolov3-best.json"])
    assert (trained / "config.yaml").is_file()
    summary = {p.name for p in (trained / "summary").iterdir()}
    assert {"train.csv", "eval.csv", "curves.png"} <= summary and any("tfevents" in name for name in summary)
    assert len((trained / "summary" / "train.csv").read_text().splitlines()) == 5
    assert len((trained / "summary" / "eval.csv").read_text().splitlines()) == 3
    card = json.loads((trained / "ckpt_0" / "yolov3-best.json").read_text())
    assert card["class_names"] == ["red", "blue"] and card["category_ids"] == [3, 4]
    assert card["preprocess"]["mean"] == [0.485, 0.456, 0.406] and card["network"]["activation"] == "leaky"


def test_log_lines_have_the_documented_format(trained):
    text = (trained / "log.txt").read_text()
    stamp = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}:INFO:"
    assert re.search(stamp + r"epoch\[0\], iter\[0\], loss:\d+\.\d+, \d+\.\d\d imgs/sec, lr:0\.02$", text, re.M)
    assert re.search(stamp + r"epoch: 1 step: 2, loss is \d+\.\d+", text, re.M)
    assert re.search(stamp + r"epoch time: \d+\.\d ms, per step time: \d+\.\d\d ms$", text, re.M)
    assert "compiling the training graph" in text


def test_resume_continues_bit_for_bit(dataset, trained, tmp_path):
    """Two epochs = one epoch and a resumed second one: weights, statistics, averages, velocity."""
    shutil.copytree(trained, tmp_path / "part")
    for path in (tmp_path / "part" / "ckpt_0").glob("yolov3-2_4*"):
        path.unlink()
    args = ("--run_name", "part", "--max_epoch", 2, "--ema_decay", 0.9, "--resume", "auto")
    assert train(dataset, tmp_path, *args) == 0
    whole = load_snapshot(next(checkpoints_in(trained / "ckpt_0")))
    resumed = load_snapshot(next(checkpoints_in(tmp_path / "part" / "ckpt_0")))
    assert resumed.progress["step"] == whole.progress["step"] == 4
    for mine, theirs in (
        (resumed.weights, whole.weights), (resumed.averages, whole.averages), (resumed.state, whole.state)
    ):  # fmt: skip
        assert mine.keys() == theirs.keys()
        for name, value in theirs.items():
            np.testing.assert_array_equal(mine[name], value, err_msg=name)


def test_resuming_with_changed_settings_is_refused(dataset, trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "part")
    args = ("--run_name", "part", "--max_epoch", 2, "--ema_decay", 0.9, "--resume", "auto", "--lr", 0.5)
    assert train(dataset, tmp_path, *args) == 1
    message = capsys.readouterr().err
    assert "lr was 0.02 and is 0.5" in message and "--resume_force" in message and "Traceback" not in message


def test_evaluation_of_the_best_weights(dataset, trained, tmp_path, capsys):
    weights = trained / "ckpt_0" / "yolov3-best.ckpt"
    args = ("--config", "configs/yolov3.yaml", "--num_classes", 0, "--testing_shape", 64, "--num_parallel_workers", 0)
    assert run(evaluation.main, *args, "--data_dir", dataset, "--pretrained", weights, "--log_path", tmp_path,
               "--eval_batch_size", 4, "--draw_images", 2) == 0  # fmt: skip
    printed = capsys.readouterr().out
    assert "=============coco eval reulst=========" in printed
    assert printed.count("Average Precision") == 6 and printed.count("Average Recall") == 6
    (folder,) = tmp_path.iterdir()
    assert len(list((folder / "pictures").glob("*.jpg"))) == 2
    assert (folder / "per_class.csv").read_text().startswith("class")
    # The result file scored again, without a network.
    args = ("--config", "configs/yolov3.yaml", "--num_classes", 0, "--log_path", tmp_path / "again")
    assert run(evaluation.main, *args, "--data_dir", dataset, "--detections", folder / "detections.json") == 0
    assert capsys.readouterr().out.split("reulst")[1][:800] == printed.split("reulst")[1][:800]


def copy_with(dataset, folder, change):
    """A copy of the dataset with training annotations edited by `change`."""
    shutil.copytree(dataset, folder)
    path = folder / "annotations" / "train.json"
    coco = json.loads(path.read_text())
    change(coco)
    path.write_text(json.dumps(coco))
    return folder


def _set(where, index, **values):
    return lambda coco: coco[where][index].update(values)


BAD_ANNOTATIONS = {
    "a box outside its image": (
        _set("annotations", 0, bbox=[200, 10, 20, 20]),
        ["train.json", "exceeds its image"],
    ),
    "a box of no area": (_set("annotations", 0, bbox=[10, 10, 0, 20]), ["train.json", "area"]),
    "an unknown image": (_set("annotations", 0, image_id=99), ["train.json", "99"]),
    "an unknown category id": (_set("annotations", 0, category_id=77), ["train.json", "77"]),
    "a path that leaves the folder": (_set("images", 0, file_name="../0.jpg"), ["train.json", "../0.jpg"]),
    "an image that is missing": (_set("images", 0, file_name="none.jpg"), ["none.jpg"]),
}


@pytest.mark.parametrize("name", BAD_ANNOTATIONS)
def test_invalid_annotations_are_reported(dataset, tmp_path, capsys, name):
    change, fragments = BAD_ANNOTATIONS[name]
    data = copy_with(dataset, tmp_path / "data", change)
    assert train(data, tmp_path / "out", "--max_epoch", 1) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ") and "Traceback" not in message
    for fragment in fragments:
        assert fragment in message
    assert not list((tmp_path / "out").rglob("*.ckpt"))


@pytest.mark.parametrize(("content", "fragment"), [(b"", "0.jpg"), (b"no image", "0.jpg"), (None, "0.jpg")])
def test_invalid_images_are_reported(dataset, tmp_path, capsys, content, fragment):
    data = copy_with(dataset, tmp_path / "data", lambda coco: coco.update(images=coco["images"][:1], annotations=[]))
    image = data / "train" / "0.jpg"
    image.write_bytes(image.read_bytes()[:300] if content is None else content)
    assert train(data, tmp_path / "out", "--max_epoch", 1) == 1
    message = capsys.readouterr().err
    assert fragment in message and "Traceback" not in message


def test_annotations_that_are_not_json(dataset, tmp_path, capsys):
    data = copy_with(dataset, tmp_path / "data", lambda coco: None)
    (data / "annotations" / "train.json").write_text('{"images": [}')
    assert train(data, tmp_path / "out") == 1
    assert "train.json" in capsys.readouterr().err


TYPED = {
    "no data_dir": (["--data_dir", ""], 2, ["data_dir"]),
    "a data_dir that does not exist": (["--data_dir", "/nowhere"], 1, ["/nowhere"]),
    "an unknown key": (["--data_dri", "x"], 2, ["data_dri", "data_dir"]),
    "a wrong type": (["--lr", "fast"], 2, ["--lr", "fast"]),
    "a value out of range": (["--momentum", "2"], 2, ["momentum"]),
    "a size that is no multiple of 32": (["--training_shape", "100"], 2, ["training_shape", "32"]),
    "a category that is not in class_names": (["--class_names", "red,green"], 1, ["blue"]),
    "another number of classes": (["--num_classes", "7"], 1, ["num_classes", "7"]),
    "weights that do not exist": (["--pretrained", "none.ckpt"], 1, ["none.ckpt"]),
    "a distributed run without launcher": (["--is_distributed", "1"], 1, ["msrun"]),
}


@pytest.mark.parametrize("name", TYPED)
def test_invalid_flags_are_reported(dataset, tmp_path, capsys, name):
    flags, code, fragments = TYPED[name]
    assert train(dataset, tmp_path / "out", "--max_epoch", 1, *flags) == code
    message = capsys.readouterr().err
    assert "Traceback" not in message
    for fragment in fragments:
        assert fragment in message
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize(("interval", "is_warned"), [(1000, True), (2, False)])
def test_a_checkpoint_interval_in_steps_is_warned_of(dataset, tmp_path, capsys, interval, is_warned):
    """The old YOLOs counted steps. (The training fails at its data, before anything is compiled.)"""
    assert train(dataset / "train", tmp_path, "--max_epoch", 2, "--ckpt_interval", interval) == 1
    assert (f"--ckpt_interval is {interval} epochs, not steps" in capsys.readouterr().out) is is_warned


def test_weights_of_another_model_or_width_are_refused(dataset, trained, tmp_path, capsys):
    source = trained / "ckpt_0" / "yolov3-best.ckpt"
    for suffix in (".ckpt", ".json"):
        shutil.copy(source.with_suffix(suffix), tmp_path / f"w{suffix}")
    card = json.loads((tmp_path / "w.json").read_text())
    card = {name: value for name, value in card.items() if name not in ("sealed", "checksum")}
    weights = ("--pretrained", tmp_path / "w.ckpt")
    assert train(dataset, tmp_path / "out", *weights, "--backbone_shape", "8,8,8,16,16,16") == 2
    assert "backbone_shape" in capsys.readouterr().err
    (tmp_path / "w.json").write_text(json.dumps({**card, "model": "yolov4"}))
    assert train(dataset, tmp_path / "out", *weights) == 1
    assert "'yolov4'" in capsys.readouterr().err
    (tmp_path / "w.json").write_text(json.dumps({**card, "class_names": ["cat", "dog"]}))
    assert train(dataset, tmp_path / "out", *weights) == 1
    assert "--filter_weight" in capsys.readouterr().err
    (tmp_path / "w.json").write_text(json.dumps({**card, "preprocess": {"mean": [0, 0, 0]}}))
    assert train(dataset, tmp_path / "out", *weights, "--mean", "0.5,0.5,0.5") == 2
    assert "mean" in capsys.readouterr().err
    (tmp_path / "w.json").unlink()
    assert train(dataset, tmp_path / "out", *weights, "--backbone_shape", "8,8,8,16,16,16") == 1
    assert "does not fit the network" in capsys.readouterr().err


def test_an_existing_run_is_not_overwritten(dataset, trained, capsys):
    assert train(dataset, trained.parent, "--run_name", trained.name) == 2
    assert "--resume=auto" in capsys.readouterr().err


def test_evaluation_without_weights_is_refused(dataset, tmp_path, capsys):
    config = ("--config", "configs/yolov3.yaml", "--log_path", tmp_path)
    assert run(evaluation.main, *config, "--data_dir", dataset) == 2
    assert "--pretrained" in capsys.readouterr().err


def test_a_real_process_stops_at_sigterm_with_a_checkpoint(dataset, tmp_path):
    """Exit code 143, and a complete checkpoint in the middle of an epoch."""
    command = [sys.executable, "train.py", *TINY, "--data_dir", str(dataset), "--ckpt_path", str(tmp_path),
               "--run_name", "r", "--max_epoch", "1000"]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 240
    lines = []
    while "iter[4]" not in (line := process.stdout.readline()):
        lines.append(line)
        assert line and time.monotonic() < deadline, "".join(lines)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 143
    manifest = next(checkpoints_in(tmp_path / "r" / "ckpt_0"))
    assert load_snapshot(manifest).progress["step"] >= 5
