"""The check of image folders."""

import shutil

from msdet.tools.check import check
from tests.data.conftest import write_image


def test_image_folders_of_a_classifier(tmp_path, capsys):
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            write_image(tmp_path / split / name / f"{split}.jpg", 40, 40, seed=len(split + name))
    (tmp_path / "train" / "dog" / "broken.jpg").write_bytes(b"x" * 99)
    shutil.copy(tmp_path / "train" / "cat" / "train.jpg", tmp_path / "val" / "cat" / "copy.jpg")
    assert check.main(["--config", "configs/darknet53_imagenet.yaml", "--num_classes=0", f"--data_dir={tmp_path}"]) == 1
    text = capsys.readouterr().out
    assert "[error] corrupt image: 1" in text
    assert "validation images are also training images" in text
    assert "2 classes have fewer than 10 images: cat (1), dog (2)" in text
