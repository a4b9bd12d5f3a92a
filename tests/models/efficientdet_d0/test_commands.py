"""train.py and eval.py with a tiny EfficientDet and a tiny dataset."""

import json
from pathlib import Path

import numpy as np
import pytest

import eval as evaluation
import train as training
from msdet.checkpoints.state import checkpoints_in, load_snapshot
from msdet.checkpoints.weights_file import load_tensors, save_tensors, tensors_of
from msdet.config import load_config
from msdet.models.recipe import get_recipe
from tests.in_process import run

pytestmark = pytest.mark.usefixtures("at_root")
ROOT = Path(__file__).resolve().parents[3]
DATA = ["--config", "configs/efficientdet_d0.yaml", "--num_parallel_workers", "0", "--progress", "off"]
TRAIN = [
    *DATA, "--num_classes", "5", "--backbone_shape", "8,4,4,8,8,8,8,16", "--backbone_layers", "1,1,1,1,1,2,1",
    "--pyramid_channels", "8", "--pyramid_repeats", "1", "--head_repeats", "1", "--training_shape", "128",
    "--per_batch_size", "3", "--lr", "0.01", "--lr_warmup_init", "0.002", "--log_interval", "1", "--max_epoch", "2",
    "--drop_connect", "0.5",
]  # fmt: skip


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A checkpoint of a tiny backbone, with weights that no initialisation gives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        network = get_recipe(load_config(TRAIN[1], TRAIN[2:])).build_network()
    tensors = {
        name: np.full(value.shape, 0.5, np.float32) if name.endswith("conv.weight") else value
        for name, value in tensors_of(network).items()
        if name.startswith("backbone.")
    }
    path = tmp_path_factory.mktemp("weights") / "b0.ckpt"
    save_tensors(path, tensors)
    return path


@pytest.fixture(scope="module")
def trained(dataset, backbone, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        flags = ("--coco_root", dataset, "--mindrecord_dir", out / "mindrecord", "--pretrained_backbone", backbone,
                 "--ckpt_path", out, "--run_name", "run")  # fmt: skip
        assert run(training.main, *TRAIN, *flags) == 0
    return out / "run"


def test_a_run_and_its_card(trained):
    assert len(list((trained.parent / "mindrecord" / "train").glob("train.mindrecord?"))) == 8
    card = json.loads((trained / "ckpt_0" / "efficientdet_d0-2_4.json").read_text())
    assert card["label_map"] == "coco_id_minus_1" and card["num_classes"] == 5
    assert card["preprocess"]["resize"] == "letterbox_top_left" and card["network"]["pool_padding"] == "ignore"
    header, *steps = (trained / "summary" / "train.csv").read_text().splitlines()
    assert {"class", "box"} <= set(header.split(",")) and len(steps) == 4
    # One epoch of two steps from lr_warmup_init to lr, then a cosine per step whose half period is the second epoch.
    rates = [float(line.split(",")[header.split(",").index("lr")]) for line in steps]
    cosine = [0.005 * (1 + np.cos(np.pi * step / 2)) for step in (2, 3)]
    np.testing.assert_allclose(rates, [0.002, 0.006, *cosine], rtol=1e-6, atol=1e-9)


def test_training_starts_from_the_backbone_and_keeps_averages(trained):
    """Four steps move a weight by less than 0.1; the checkpoint holds the averages, which move more slowly."""
    saved = load_snapshot(next(checkpoints_in(trained / "ckpt_0")))
    name = "backbone.stem.conv.weight"
    moved = [np.abs(tensors[name] - 0.5).max() for tensors in (saved.averages, saved.weights)]
    assert 0 < moved[0] < moved[1] < 0.1
    np.testing.assert_array_equal(
        load_tensors(trained / "ckpt_0" / "efficientdet_d0-2_4.ckpt")[name], saved.averages[name]
    )


@pytest.mark.slow
def test_a_training_resumes_bit_for_bit(dataset, backbone, trained, tmp_path):
    """Drop-connect drops the same branches too."""
    (tmp_path / "part" / "ckpt_0").mkdir(parents=True)
    for path in (trained / "ckpt_0").glob("efficientdet_d0-1_2*"):
        (tmp_path / "part" / "ckpt_0" / path.name).write_bytes(path.read_bytes())
    flags = ("--coco_root", dataset, "--mindrecord_dir", trained.parent / "mindrecord", "--pretrained_backbone",
             backbone, "--ckpt_path", tmp_path, "--run_name", "part", "--resume", "auto")  # fmt: skip
    assert run(training.main, *TRAIN, *flags) == 0
    whole = load_snapshot(next(checkpoints_in(trained / "ckpt_0")))
    resumed = load_snapshot(next(checkpoints_in(tmp_path / "part" / "ckpt_0")))
    assert whole.progress["step"] == resumed.progress["step"] == 4
    for name, value in whole.weights.items():
        np.testing.assert_array_equal(resumed.weights[name], value, err_msg=name)


def test_evaluation_with_the_old_flags(dataset, trained, tmp_path, capsys):
    weights = trained / "ckpt_0" / "efficientdet_d0-2_4.ckpt"
    flags = (*DATA, "--num_classes", 5, "--testing_shape", 128, "--coco_root", dataset, "--checkpoint_path", weights,
             "--log_path", tmp_path, "--score_threshold", 0, "--nms_threshold", 0.9)  # fmt: skip
    assert run(evaluation.main, *flags) == 0
    first = capsys.readouterr().out
    assert "coco eval reulst" in first
    (folder,) = tmp_path.iterdir()
    found = json.loads((folder / "detections.json").read_text())
    assert {item["category_id"] for item in found} <= {1, 2, 3, 4, 5}
    counts = np.bincount([item["image_id"] for item in found], minlength=6)
    assert (counts <= 100).all() and (counts > 0).all()
    boxes = np.array([item["bbox"] for item in found])
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 0] + boxes[:, 2] <= 80.01).all()
    assert (boxes[:, 1] + boxes[:, 3] <= 60.01).all()
    # Existing results are reused, unless an option differs.
    assert run(evaluation.main, *flags, "--override", "False") == 0
    again = capsys.readouterr().out
    assert "override is off" in again and first.split("reulst")[1][:800] == again.split("reulst")[1][:800]
    other = [0.8 if value == 0.9 else value for value in flags]
    assert run(evaluation.main, *other, "--override", "False") == 0
    assert "override is off" not in capsys.readouterr().out


@pytest.mark.slow
def test_weights_of_other_classes(dataset, trained, tmp_path):
    """The layers that predict classes are initialised, all others loaded."""
    weights = trained / "ckpt_0" / "efficientdet_d0-2_4.ckpt"
    flags = ("--data_dir", dataset, "--ckpt_path", tmp_path, "--checkpoint_path", weights, "--max_epoch", 1,
             "--label_map", "dense", "--num_classes", 0, "--filter_weight", 1, "--mode", "pynative")  # fmt: skip
    assert run(training.main, *TRAIN, *flags) == 0
    (card,) = tmp_path.rglob("efficientdet_d0-1_2.json")
    assert json.loads(card.read_text())["class_names"] == ["red", "blue"]
