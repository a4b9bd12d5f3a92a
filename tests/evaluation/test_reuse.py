"""Detections of an earlier evaluation are reused only if their inputs are the same."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from msdet.config import load_config
from msdet.data.dataset import DetectionDataset, Sample
from msdet.evaluation.reuse import earlier_detections, provenance_of, save_provenance
from msdet.models.recipe import get_recipe

FLAGS = ["--num_classes=2", "--class_names=cat,dog"]
NONE = np.zeros(0, bool)


def sample(name, number):
    return Sample(Path("val") / name, number, 8, 8, np.zeros((0, 4), np.float32), np.zeros(0, np.int32), NONE, NONE)


@pytest.fixture
def made(tmp_path):
    """A weights file, a dataset, and a folder with detections made from them."""
    weights = tmp_path / "w.ckpt"
    weights.write_bytes(b"weights")
    dataset = DetectionDataset(
        [sample("a.jpg", 1), sample("b.jpg", 2)], ["cat", "dog"], [1, 2], tmp_path / "val.json", tmp_path / "val"
    )
    folder = tmp_path / "log" / "eval_1"
    folder.mkdir(parents=True)
    (folder / "detections.json").write_text("[]")
    save_provenance(folder, inputs(weights, dataset))
    return weights, dataset, folder


def inputs(weights, dataset, *flags):
    return provenance_of(get_recipe(load_config("configs/yolov3.yaml", [*FLAGS, *flags], "eval")), dataset, weights)


def test_the_latest_detections_of_the_same_inputs_are_reused(made, tmp_path):
    weights, dataset, folder = made
    assert earlier_detections(tmp_path / "log", inputs(weights, dataset)) == folder / "detections.json"
    (tmp_path / "log" / "eval_2").mkdir()  # interrupted: it has no detections
    assert earlier_detections(tmp_path / "log", inputs(weights, dataset)) == folder / "detections.json"
    # Keys of scoring and speed do not matter.
    other = inputs(weights, dataset, "--scorer=pycocotools", "--eval_batch_size=3", "--num_parallel_workers=1")
    assert earlier_detections(tmp_path / "log", other) == folder / "detections.json"


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--mean=0.1,0.2,0.3", "mean was ["),
        ("--std=0.1,0.2,0.3", "std was ["),
        ("--interpolation=nearest", "interpolation was "),
        ("--on_bad_image=skip", "on_bad_image was error, is skip"),
        ("--bn_eps=0.01", "bn_eps was "),
        ("--testing_shape=64", "testing_shape was "),
        ("--nms_thresh=0.3", "nms_threshold was "),
        ("--multi_label_thresh=0.3", "multi_label_thresh was "),
        ("--class_names=cat,cow", "class_names was ['cat', 'dog'], is ['cat', 'cow']"),
    ],
)
def test_a_changed_key_is_logged(made, tmp_path, caplog, flag, message):
    weights, dataset, _ = made
    caplog.set_level("INFO")
    assert earlier_detections(tmp_path / "log", inputs(weights, dataset, flag)) is None
    assert message in caplog.text and "eval_1/detections.json" in caplog.text


def test_changed_images_and_weights_are_logged(made, tmp_path, caplog):
    weights, dataset, folder = made
    caplog.set_level("INFO")
    fewer = replace(dataset, samples=dataset.samples[:1])
    assert earlier_detections(tmp_path / "log", inputs(weights, fewer)) is None
    assert "images and annotations (sha256) was" in caplog.text
    elsewhere = replace(dataset, image_dir=tmp_path / "others")
    assert earlier_detections(tmp_path / "log", inputs(weights, elsewhere)) is None
    assert "image folder was" in caplog.text
    before = inputs(weights, dataset)
    weights.write_bytes(b"others")
    assert earlier_detections(tmp_path / "log", inputs(weights, dataset)) is None
    assert "weights (sha256) was" in caplog.text
    (folder / "origin.json").unlink()
    assert earlier_detections(tmp_path / "log", before) is None
    assert "there is no origin.json" in caplog.text


def test_a_changed_objectness_threshold_is_logged(made, tmp_path, caplog):
    """A key that only RefineDet has."""
    weights, dataset, folder = made

    def of_refinedet(*flags):
        flags = ["--num_classes=2", "--class_names=cat,dog", *flags]
        return provenance_of(
            get_recipe(load_config("configs/refinedet_vgg16_320.yaml", flags, "eval")), dataset, weights
        )

    save_provenance(folder, of_refinedet())
    assert earlier_detections(tmp_path / "log", of_refinedet()) == folder / "detections.json"
    caplog.set_level("INFO")
    assert earlier_detections(tmp_path / "log", of_refinedet("--objectness_threshold=0.2")) is None
    assert "objectness_threshold was 0.01, is 0.2" in caplog.text
