"""Sheets of training images for each model."""

import cv2
import pytest

from msdet.errors import UsageError
from msdet.tools import browse
from tests.data import all_formats as formats
from tests.data.conftest import write_image

SMALL = ["--training_shape=128", "--testing_shape=128"]


@pytest.mark.parametrize(
    ("config", "flags"),
    [
        ("yolov3", SMALL),
        ("yolov4", [*SMALL, "--mosaic=True"]),
        ("efficientdet_d0", [*SMALL, "--label_map=dense", "--split=val"]),
        ("refinedet_vgg16_320", []),
    ],
)
def test_detectors(tmp_path, capsys, config, flags):
    root = formats.write_voc(tmp_path / "voc")
    arguments = ["--config", f"configs/{config}.yaml", "--class_names=", "--num_classes=0", f"--data_dir={root}"]
    assert browse.main([*arguments, "--count=3", "--keep_empty_images=1", f"--output={tmp_path}/out", *flags]) == 0
    (path,) = (tmp_path / "out").iterdir()
    assert f"{path}: 3 images" in capsys.readouterr().out
    image = cv2.imread(str(path))
    assert image.shape[1] > 3 * 128
    assert image.std() > 10


def test_classifiers(tmp_path):
    for split in ("train", "val"):
        for number, name in enumerate(("cat", "dog")):
            write_image(tmp_path / split / name / f"{split}.jpg", 40, 40, seed=number)
    arguments = ["--config", "configs/darknet53_imagenet.yaml", "--num_classes=0", f"--data_dir={tmp_path}"]
    assert browse.main([*arguments, "--count=9", f"--output={tmp_path}/out"]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_invalid_flags():
    with pytest.raises(UsageError, match="--count is 0"):
        browse.main(["--config", "configs/yolov3.yaml", "--count=0"])
