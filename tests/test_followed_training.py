"""A training with an evaluation after every epoch: its tables, log, checkpoints and detections agree."""

import csv
import json
import re

import cv2
import numpy as np
import pytest

import train as training
from msdet.checkpoints.state import checkpoints_in, load_snapshot
from msdet.checkpoints.weights_file import load_weights
from msdet.evaluation.coco.score import score_detections
from msdet.files import read_json
from msdet.training.schedules import build_schedule
from tests.in_process import run

pytestmark = pytest.mark.usefixtures("at_root")
EPOCHS, STEPS = 6, 4
FLAGS = [
    "--config", "configs/yolov3_shapes.yaml", "--training_shape", "64", "--testing_shape", "64", "--num_classes", "0",
    "--backbone_shape", "4,8,8,16,16,16", "--backbone_layers", "1,1,1,1,1", "--per_batch_size", "4",
    "--num_parallel_workers", "0", "--progress", "off", "--log_interval", "1", "--lr", "0.03", "--max_epoch", EPOCHS,
    "--t_max", EPOCHS, "--warmup_epochs", "1.5", "--eval_start_epoch", "1", "--eval_interval", "1", "--run_eval", "1",
    "--ema_decay", "0.9", "--ckpt_interval", "1", "--keep_checkpoint_max", "20", "--run_name", "followed",
]  # fmt: skip


def write_data(folder, count):
    """Images with one box each, of the size of an anchor and centred in a cell, which are learned in a few steps."""
    box = [11.5, 16.5, 33.0, 23.0]
    rng = np.random.default_rng(0)
    (folder / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (folder / split).mkdir()
        for i in range(count):
            image = rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)
            cv2.rectangle(image, (12, 17), (43, 38), (200, 60, 40), -1)
            cv2.imwrite(str(folder / split / f"{i}.png"), image)
        content = {
            "images": [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 64} for i in range(count)],
            "annotations": [
                {"id": i, "image_id": i, "category_id": 1, "bbox": box, "area": 759.0, "iscrowd": 0}
                for i in range(count)
            ],
            "categories": [{"id": 1, "name": "red"}],
        }
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Folder with `data`, the run `out/followed`, and the curves in `curves/followed`."""
    folder = tmp_path_factory.mktemp("followed")
    write_data(folder / "data", 4 * STEPS)
    assert train(folder) == 0
    return folder


def train(folder, *flags):
    places = ("--data_dir", folder / "data", "--ckpt_path", folder / "out", "--summary_dir", folder / "curves")
    return run(training.main, *FLAGS, *places, *flags)


def table(path):
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def scored_epochs(world):
    return {int(row["epoch"]): row for row in table(world / "curves" / "followed" / "eval.csv")}


def test_logged_and_tabulated_rates_equal_the_schedule(world):
    schedule = build_schedule("cosine_annealing", 0.03, STEPS, EPOCHS, 1.5, t_max=EPOCHS)
    wanted = [schedule(epoch, step) for epoch in range(EPOCHS) for step in range(STEPS)]
    assert len(set(wanted)) == 10  # six steps of a warm-up, then four epochs and a half of a rate each
    rows = table(world / "curves" / "followed" / "train.csv")
    np.testing.assert_allclose([row["lr"] for row in rows], wanted, rtol=1e-12)
    assert [row["step"] for row in rows] == list(range(1, EPOCHS * STEPS + 1))
    assert [row["epoch"] for row in rows] == [epoch for epoch in range(EPOCHS) for _ in range(STEPS)]
    logged = re.findall(
        r"epoch\[(\d+)\], iter\[(\d+)\], .* lr:(\S+)", (world / "out" / "followed" / "log.txt").read_text()
    )
    assert [int(step) for _, step, _ in logged] == list(range(EPOCHS * STEPS))
    np.testing.assert_allclose([float(rate) for *_, rate in logged], wanted, rtol=1e-12)


def test_tabulated_scores_equal_those_of_the_detections(world):
    """AP and AP50 of the epochs whose detections are kept: the latest and the best."""
    scored = scored_epochs(world)
    assert list(scored) == list(range(1, EPOCHS + 1))
    best = max(scored, key=lambda epoch: scored[epoch]["AP"])
    kept = sorted((world / "out" / "followed" / "eval").glob("*detections_*"))
    assert {path.name for path in kept} == {f"detections_{epoch}.json" for epoch in (best, EPOCHS)}
    for path in kept:
        result = score_detections(world / "data" / "annotations" / "val.json", path, "pycocotools")
        row = scored[int(path.stem.rsplit("_", 1)[1])]
        assert 0 < result.ap < result.ap50
        assert (row["AP"], row["AP50"]) == pytest.approx((result.ap, result.ap50), abs=1e-9)


def test_the_best_weights_are_the_moving_averages_of_the_best_epoch(world):
    scored = scored_epochs(world)
    best = max(scored, key=lambda epoch: scored[epoch]["AP"])
    folder = world / "out" / "followed" / "ckpt_0"
    weights, card = load_weights(folder / "yolov3-best.ckpt")
    assert (card["epoch"], card["AP"], card["AP50"]) == pytest.approx((best, scored[best]["AP"], scored[best]["AP50"]))
    snapshot = load_snapshot(folder / f"yolov3-{best}_{best * STEPS}.state.json")
    assert weights.keys() == snapshot.averages.keys()
    for name, value in weights.items():
        np.testing.assert_array_equal(value, snapshot.averages[name], err_msg=name)
    assert any((value != snapshot.weights[name]).any() for name, value in weights.items())
    saved, _ = load_weights(folder / f"yolov3-{best}_{best * STEPS}.ckpt")
    assert all((saved[name] == value).all() for name, value in weights.items())


def test_log_and_checkpoints_have_the_same_scores(world):
    text = (world / "out" / "followed" / "log.txt").read_text()
    scored = scored_epochs(world)
    logged = re.findall(r"epoch: (\d+), AP: (\S+), AP50: (\S+)", text)
    assert logged == [(str(e), f"{row['AP']:.4f}", f"{row['AP50']:.4f}") for e, row in scored.items()]
    best = max(scored, key=lambda epoch: scored[epoch]["AP"])
    progress = load_snapshot(next(checkpoints_in(world / "out" / "followed" / "ckpt_0"))).progress
    assert (progress["best_epoch"], progress["scored_epoch"]) == (best, EPOCHS)
    assert progress["best_score"] == pytest.approx(scored[best]["AP"])


@pytest.mark.slow
def test_several_runs_share_a_summary_folder(world):
    assert (
        train(
            world, "--run_name", "second", "--max_epoch", "1", "--t_max", "1", "--run_eval", "0", "--warmup_epochs", "0"
        )
        == 0
    )
    assert {path.name for path in (world / "curves").iterdir()} == {"followed", "second"}
    assert len(table(world / "curves" / "followed" / "train.csv")) == EPOCHS * STEPS
    assert not (world / "out" / "followed" / "summary").exists()


def test_resuming_a_complete_run_is_warned_of(world, capsys):
    before = read_json(next(checkpoints_in(world / "out" / "followed" / "ckpt_0")))
    assert train(world, "--resume", "auto") == 0
    assert f"this run is complete: epoch {EPOCHS} of max_epoch {EPOCHS} is done" in capsys.readouterr().out
    assert read_json(next(checkpoints_in(world / "out" / "followed" / "ckpt_0"))) == before
    assert len(scored_epochs(world)) == EPOCHS
