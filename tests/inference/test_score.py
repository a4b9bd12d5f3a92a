"""Scoring of exported files: by every runner the same as eval.py, and from result files of another program."""

from __future__ import annotations

import json
import shutil

import cv2
import mindspore as ms
import numpy as np
import pytest

import eval as evaluation
import export
import postprocess
from msdet.config import load_config
from msdet.errors import run_command
from msdet.export.spec import DeployCell, ExportSpec
from msdet.export.verify import BOX_TOLERANCE_PX, SCORE_TOLERANCE
from msdet.inference.open_runner import open_runner
from msdet.models.recipe import get_recipe
from tests.inference.result_bins import write_bins

CONFIG = "configs/yolov3.yaml"
COMMON = ("--config", CONFIG, "--num_parallel_workers", "0", "--progress", "off", "--device_target", "CPU",
          "--num_classes", "2")  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Three pictures in COCO's form."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "val").mkdir()
    (folder / "annotations").mkdir()
    rng = np.random.default_rng(3)
    images = []
    for i, (width, height) in enumerate([(80, 60), (64, 64), (50, 90)]):
        cv2.imwrite(str(folder / "val" / f"p{i}.jpg"), rng.integers(0, 255, (height, width, 3)).astype(np.uint8))
        images.append({"id": i + 1, "file_name": f"p{i}.jpg", "width": width, "height": height})
    boxes = [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [5, 5, 30, 30], "area": 900, "iscrowd": 0}]
    categories = [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}]
    coco = {"images": images, "annotations": boxes, "categories": categories}
    (folder / "annotations" / "val.json").write_text(json.dumps(coco))
    return folder


@pytest.fixture(scope="module")
def files(checkpoint, tmp_path_factory):
    """The checkpoint as MINDIR and as ONNX."""
    name = tmp_path_factory.mktemp("files") / "net"
    flags = (*COMMON, "--ckpt_file", str(checkpoint), "--testing_shape", "64", "--keep_preprocess", "1",
             "--emulate_float16", "0")  # fmt: skip
    for file_format in ("MINDIR", "ONNX"):
        assert run_command(export.main, [*flags, "--file_name", str(name), "--file_format", file_format]) == 0
    return name.with_suffix(".mindir"), name.with_suffix(".onnx")


def run(main, dataset, out, *flags):
    return run_command(main, [*COMMON, "--data_dir", str(dataset), "--log_path", str(out), *map(str, flags)])


def detections(out):
    return next(out.glob("*/detections.json")).read_text()


@pytest.fixture(scope="module")
def reference(checkpoint, dataset, tmp_path_factory):
    """What eval.py finds."""
    out = tmp_path_factory.mktemp("eval")
    assert run(evaluation.main, dataset, out, "--pretrained", checkpoint, "--testing_shape", 64) == 0
    return detections(out)


def test_mindspore_scores_as_evaluation_does(files, reference, dataset, tmp_path, capsys):
    assert run(postprocess.main, dataset, tmp_path, "--pretrained", files[0], "--runner", "mindspore") == 0
    assert "Average Precision" in capsys.readouterr().out
    assert detections(tmp_path) == reference
    (script,) = tmp_path.glob("*/atc.sh")
    assert "images:1,64,64,3" in script.read_text()


def test_onnxruntime_finds_what_evaluation_finds(checkpoint, files, dataset, tmp_path):
    """Of all candidates: untrained scores are almost tied, and a rounding decides which of two suppresses the other."""
    flags = ("--nms_thresh", 1, "--max_detections", 1000, "--multi_label", 1, "--multi_label_thresh", 0)
    run_of_file = ("--pretrained", files[1], "--runner", "onnxruntime")
    assert run(postprocess.main, dataset, tmp_path / "onnx", *run_of_file, *flags) == 0
    of_checkpoint = ("--pretrained", checkpoint, "--testing_shape", 64)
    assert run(evaluation.main, dataset, tmp_path / "eval", *of_checkpoint, *flags) == 0
    mine, theirs = by_image_and_class(tmp_path / "onnx"), by_image_and_class(tmp_path / "eval")
    assert mine.keys() == theirs.keys() and {image for image, _ in mine} == {1, 2, 3}
    for place, rows in theirs.items():
        refuse_differing(mine[place], rows, longest_side=90)


def by_image_and_class(out):
    """(image id, category id) -> rows of x1, y1, x2, y2, score."""
    found = {}
    for record in json.loads(detections(out)):
        x, y, width, height = record["bbox"]
        row = [x, y, x + width, y + height, record["score"]]
        found.setdefault((record["image_id"], record["category_id"]), []).append(row)
    return {place: np.array(rows) for place, rows in found.items()}


def refuse_differing(mine, theirs, longest_side):
    """One to one, in pixels of an input of 64 and with what the file rounds to."""
    assert len(mine) == len(theirs) > 100
    tolerance = np.array([BOX_TOLERANCE_PX * longest_side / 64 + 0.01] * 4 + [SCORE_TOLERANCE])
    left = mine
    for row in theirs:
        off = (np.abs(left - row) / tolerance).max(axis=1)
        assert off.min() <= 1
        left = np.delete(left, off.argmin(), axis=0)


@pytest.mark.parametrize("detect", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_results_of_another_program_score_as_evaluation_does(
    detect, checkpoint, files, reference, dataset, tmp_path, capsys
):
    """Its inputs as files, its outputs as files: the program here is the network itself."""
    inputs, results = tmp_path / "inputs", tmp_path / "results"
    results.mkdir()
    assert run(postprocess.main, dataset, tmp_path, "--pretrained", files[0], "--input_bins", inputs) == 0
    assert sorted(path.name for path in inputs.iterdir()) == ["p0.bin", "p1.bin", "p2.bin"]
    with open_runner(checkpoint, load_config(CONFIG, ["--testing_shape=64", "--num_classes=2"])) as runner:
        cell = DeployCell(get_recipe(runner.cfg), runner.cell.network, ExportSpec((64, 64), 1, True, detect))
        for path in inputs.iterdir():
            image = np.fromfile(path, np.uint8).reshape(1, 64, 64, 3)
            for number, output in enumerate(cell(ms.Tensor(image))):
                output.asnumpy().tofile(results / f"{path.stem}_{number}.bin")
    arguments = ("--pretrained", files[0], "--result_path", results)
    assert run(postprocess.main, dataset, tmp_path / "scored", *arguments) == 0
    assert detections(tmp_path / "scored") == reference
    # The annotations tell the sizes of the images: these need not be there.
    bare = tmp_path / "annotations_alone"
    shutil.copytree(dataset / "annotations", bare / "annotations")
    assert run(postprocess.main, bare, tmp_path / "bare", *arguments) == 0
    assert detections(tmp_path / "bare") == reference
    # Or the files do.
    path = bare / "annotations" / "val.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        del image["width"], image["height"]
    path.write_text(json.dumps(content))
    assert run(postprocess.main, bare, tmp_path / "unknown", *arguments) == 1
    assert "does not have the size of p0.jpg" in capsys.readouterr().err
    shutil.copytree(dataset / "val", bare / "val")
    assert run(postprocess.main, bare, tmp_path / "sizes", *arguments) == 0
    assert detections(tmp_path / "sizes") == reference


def test_results_of_another_size_are_named(files, dataset, tmp_path, capsys):
    write_bins(tmp_path / "r", **{f"p{i}_{k}": np.zeros(7, np.float32) for i in range(3) for k in range(3)})
    flags = ("--pretrained", files[0], "--result_path", tmp_path / "r")
    assert run(postprocess.main, dataset, tmp_path, *flags) == 1
    message = capsys.readouterr().err
    assert "p0_0.bin 28" in message and "testing_shape" in message


def test_nothing_to_score(dataset, tmp_path, capsys):
    assert run(postprocess.main, dataset, tmp_path) == 2
    assert "--result_path" in capsys.readouterr().err
