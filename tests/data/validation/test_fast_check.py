"""The check of parsed annotations before a training."""

import pytest

from msdet.config import load_config
from msdet.data.formats.coco.read import read_coco
from msdet.data.validation.fast_check import fast_findings


@pytest.fixture
def cfg():
    return load_config("configs/yolov3_shapes.yaml", ["--testing_shape=64", "--num_classes=0", "--class_names="])


def test_duplicates_unused_and_rare_classes(coco, cfg):
    coco.add_image(1, boxes=[[1, 2, 10, 20], [1, 2, 10, 20]])
    dataset = read_coco(*coco.write())
    found = {finding.kind: finding for finding in fast_findings(cfg, dataset, "train")}
    assert "1 boxes are duplicates" in found["duplicate box"].text
    assert found["duplicate box"].severity == "warning"
    assert found["unused class"].text.endswith("1 classes have no boxes: dog")
    assert "fewer than 10 boxes" in found["rare class"].text
    assert "unused class" not in {finding.kind for finding in fast_findings(cfg, dataset, "val")}


@pytest.mark.parametrize(("others", "severity"), [(1, "warning"), (40, "note")])
def test_tiny_boxes(coco, cfg, others, severity):
    coco.add_image(1, 64, 64, boxes=[[1, 2, 3, 20], *([10 + i / 10, 2, 10, 20] for i in range(others))])
    (tiny,) = [f for f in fast_findings(cfg, read_coco(*coco.write()), "val") if "too small" in f.kind]
    assert tiny.severity == severity and f"1 of {1 + others} boxes" in tiny.text
