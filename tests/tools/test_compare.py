"""The comparison of fp32 and int8 variants."""

import json

import cv2
import numpy as np
import pytest

from benchmarks.int8_means import means
from msdet.errors import UserError, run_command
from msdet.tools.compare import FAKE, FLOAT, FLOAT_ONNX, INT8_ONNX, PTQ_ONNX, VariantResult, main, table

RESULTS = [
    VariantResult(FLOAT, 0.3, 0.65, 240.0, 800.0),
    VariantResult(FLOAT_ONNX, 0.3, 0.65, 200.0, 400.0),
    VariantResult(FAKE, 0.29, 0.64, 240.0, 900.0),
    VariantResult(INT8_ONNX, 0.29, 0.641, 50.0, 200.0),
]


def test_table_reports_ratios_to_float_onnx():
    lines = table(RESULTS).splitlines()
    assert len(lines) == 6
    assert lines[-1] == "| int8 (trained), ONNX | 0.2900 | 0.6410 | 50.00 | 0.250 | 200.0 | 2.00 |"


def test_means_over_seeds(tmp_path):
    with pytest.raises(UserError, match=r"int8_accuracy\.sh"):
        means(tmp_path)
    for seed, loss in ((1, 0.0), (2, 0.02)):
        (tmp_path / f"compare{seed}").mkdir()
        variants = [{**vars(result), "ap50": result.ap50 - loss} for result in RESULTS]
        (tmp_path / f"compare{seed}" / "compare.json").write_text(json.dumps({"variants": variants}))
    text = means(tmp_path)
    assert "| float, ONNX | 0.6400 | 0.6500, 0.6300 | 200.00 | 400.0 |" in text
    assert "trained int8 loses against float by +0.0090 AP50" in text
    assert "fake-quantized and int8 differ by -0.0010 AP50" in text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config", "configs/darknet53_imagenet.yaml", "--float", "w.ckpt"], "is not a detector"),
        (["--config", "configs/yolov3.yaml", "--float", "w.ckpt", "--rounds", "0"], "--rounds is 0"),
        (["--config", "configs/yolov3.yaml", "--float", "w.ckpt", "--calib", "x"], "calib"),
    ],
)
def test_invalid_arguments(capsys, flags, message):
    assert run_command(main, flags) == 2
    assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
    """Three noise images with one box each, of the classes of the tiny checkpoint."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        (folder / split).mkdir()
    for i in range(3):
        cv2.imwrite(str(folder / "val" / f"{i}.png"), rng.integers(0, 256, (64, 64, 3)).astype(np.uint8))
    coco = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 64} for i in range(3)],
        "annotations": [
            {"id": i + 1, "image_id": i, "category_id": 7, "bbox": [8, 8, 30, 20], "area": 600, "iscrowd": 0}
            for i in range(3)
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
    }
    (folder / "annotations").mkdir()
    for split in ("train", "val"):
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(coco))
    return folder


@pytest.mark.slow
def test_float_and_calibrated_variants(checkpoint, image_folder, tmp_path, capsys):
    flags = ["--config", "configs/yolov3.yaml", "--num_classes", "0", "--testing_shape", "64", "--rounds", "2"]
    flags += ["--float", str(checkpoint), "--data_dir", str(image_folder), "--calibration", str(image_folder / "val")]
    assert run_command(main, [*flags, "--output", str(tmp_path)]) == 0
    rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert rows == ["variant", FLOAT, FLOAT_ONNX, PTQ_ONNX]
    variants = json.loads((tmp_path / "compare.json").read_text())["variants"]
    assert variants[0]["ap50"] == pytest.approx(variants[1]["ap50"], abs=1e-3)
    # In a network this small, the int8 scales take more space than the int8 kernels save.
    assert all(variant["megabytes"] > 0.05 and variant["milliseconds"] > 0 for variant in variants)
