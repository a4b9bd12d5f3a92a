"""A small valid dataset and its findings, for the tests of the check."""

from msdet.config import load_config
from msdet.tools.check.splits import check_detection
from tests.data.conftest import CocoFolder

CONFIG = "configs/yolov3_shapes.yaml"


def config(root, *flags):
    return load_config(CONFIG, ["--class_names=", "--num_classes=0", f"--data_dir={root}", *flags])


def valid_dataset(root):
    """A valid COCO dataset, only very small."""
    folder = CocoFolder(root)
    folder.add_image(1, boxes=[[1, 2, 10, 20], [30, 4, 11, 10]])
    folder.add_image(2, boxes=[[5, 5, 20, 20]], category_id=7)
    folder.add_image("three", 80, 40)
    return folder


def findings(root, *flags):
    cfg = config(root, *flags)
    (checked,) = check_detection(cfg, ["train"])
    return [f for f in checked.report.findings if f.kind not in ("low anchor recall", "rare class")], checked


def arguments(root):
    return ["--config", CONFIG, "--class_names=", "--num_classes=0", f"--data_dir={root}"]
