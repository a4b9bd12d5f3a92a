"""train.py and eval.py with a tiny RefineDet and tiny datasets: VOC, a list of boxes, other classes."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

import eval as evaluation
import train as training
from msdet.config import load_config
from msdet.session.datasets import open_dataset
from tests.in_process import run

pytestmark = pytest.mark.usefixtures("at_root")
ROOT = Path(__file__).resolve().parents[3]
SMALL = [
    "--config", "configs/refinedet_vgg16_320.yaml", "--num_parallel_workers", "0", "--progress", "off",
    "--testing_shape", "64",
]  # fmt: skip
TRAIN = [
    *SMALL, "--backbone_shape", "8,8,8,8,8,16", "--backbone_layers", "1,1,1,1,1", "--pyramid_channels", "8",
    "--batch_size", "3", "--log_interval", "1", "--epoch_size", "2", "--save_checkpoint_epochs", "1",
]  # fmt: skip
OBJECT = """<object><name>{}</name><difficult>{}</difficult>
<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Six images of 80x60 px with VOC annotations and a list of boxes: a red and a blue rectangle, none in the last."""
    folder = tmp_path_factory.mktemp("voc")
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = []
    for i in range(6):
        pixels = np.full((60, 80, 3), 90, np.uint8)
        objects, boxes = "", ""
        for label, (name, colour) in enumerate((("red", (40, 40, 220)), ("blue", (220, 40, 40)))[: 2 if i < 5 else 0]):
            x, y = rng.integers(0, 30, 2).tolist()
            pixels[y : y + 25, x : x + 35] = colour
            objects += OBJECT.format(name, int(i == 0), x + 1, y + 1, x + 35, y + 25)
            boxes += f" {x},{y},{x + 35},{y + 25},{label}"
        cv2.imwrite(str(folder / "JPEGImages" / f"{i}.jpg"), pixels)
        (folder / "Annotations" / f"{i}.xml").write_text(
            f"<annotation><filename>{i}.jpg</filename><size><width>80</width><height>60</height><depth>3</depth></size>"
            f"{objects}</annotation>"
        )
        lines.append(f"JPEGImages/{i}.jpg{boxes}")
    for split in ("trainval", "test"):
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(map(str, range(6))))
    (folder / "list.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        flags = ("--dataset", "voc", "--voc_root", dataset, "--check_point", out, "--run_name", "run")
        assert run(training.main, *TRAIN, *flags) == 0
    return out / "run"


def test_a_run_and_its_card(trained):
    card = json.loads((trained / "ckpt_0" / "refinedet-2_4.json").read_text())
    assert card["class_names"] == ["blue", "red"]
    assert card["network"]["backbone"] == "vgg16" and card["preprocess"]["resize"] == "stretch"
    header, *steps = (trained / "summary" / "train.csv").read_text().splitlines()
    assert {"arm_box", "arm_class", "odm_box", "odm_class"} <= set(header.split(",")) and len(steps) == 4


def test_difficult_objects_are_ignored_in_training(dataset):
    cfg = load_config(SMALL[1], ["--dataset", "voc", "--voc_root", str(dataset)])
    counts = {
        split: sum(len(sample.boxes) for sample in open_dataset(cfg, split)[0].samples) for split in ("train", "val")
    }
    assert counts == {"train": 8, "val": 10}
    both, _ = open_dataset(cfg.replace(learn_difficult=True), "train")
    assert sum(len(sample.boxes) for sample in both.samples) == 10


def evaluate(trained, out, capsys, *flags):
    weights = trained / "ckpt_0" / "refinedet-2_4.ckpt"
    assert run(evaluation.main, *SMALL, "--checkpoint_path", weights, "--log_path", out, *flags) == 0
    (folder,) = out.iterdir()
    return capsys.readouterr().out, json.loads((folder / "detections.json").read_text())


def test_evaluation_by_the_rules_of_voc(dataset, trained, tmp_path, capsys):
    out, found = evaluate(trained, tmp_path, capsys, "--dataset", "voc", "--voc_root", dataset, "--min_score", 0)
    assert "coco eval reulst" in out and "VOC average precision at IoU 0.5" in out
    assert re.search(r"^mAP: [\d.]+", out, re.MULTILINE)
    # The objects of the first image are difficult and are ignored.
    assert re.search(r"^blue +4 ", out, re.MULTILINE) and re.search(r"^red +4 ", out, re.MULTILINE)
    assert len(np.unique([item["image_id"] for item in found])) == 6
    counts = np.unique([item["image_id"] for item in found], return_counts=True)[1]
    assert (counts <= 500).all()
    boxes = np.array([item["bbox"] for item in found])
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 0] + boxes[:, 2] <= 80.01).all()


def test_evaluation_on_a_list_of_boxes(dataset, trained, tmp_path, capsys):
    flags = ("--dataset", "other", "--anno_path", dataset / "list.txt", "--image_dir", dataset, "--class_num", 3,
             "--class_names", "blue,red")  # fmt: skip
    out, _ = evaluate(trained, tmp_path, capsys, *flags)
    assert "VOC average" not in out
    assert re.search(r"IoU=0.50:0.95 \| area=   all \| maxDets=100 \]", out)
    assert re.search(r"^mAP: ", out, re.MULTILINE)


@pytest.mark.slow
def test_weights_of_other_classes(dataset, trained, tmp_path):
    """The layers that predict classes are initialised, all others loaded."""
    weights = trained / "ckpt_0" / "refinedet-2_4.ckpt"
    flags = ("--dataset", "other", "--anno_path", dataset / "list.txt", "--image_dir", dataset, "--class_num", 6,
             "--check_point", tmp_path, "--pre_trained", weights, "--filter_weight", 1, "--mode", "pynative",
             "--epoch_size", 1)  # fmt: skip
    assert run(training.main, *TRAIN, *flags) == 0
    (card,) = tmp_path.rglob("refinedet-1_2.json")
    assert len(json.loads(card.read_text())["class_names"]) == 5
