"""Detection of the annotation format."""

import pytest

from msdet.data.formats.format import SourceOptions
from msdet.data.open import detect_format, load_annotations
from msdet.errors import UsageError
from tests.data import all_formats as formats
from tests.data.all_formats import message


def test_formats_are_detected(tmp_path):
    formats.write_voc(tmp_path)
    assert detect_format(SourceOptions(str(tmp_path), "ImageSets/Main/train.txt"), "train").name == "voc"
    assert detect_format(SourceOptions(str(tmp_path), "Annotations"), "train").name == "voc"
    assert detect_format(SourceOptions("", "x.json"), "train").name == "coco"
    assert detect_format(SourceOptions("", "x.yaml"), "train").name == "yolo"
    (tmp_path / "data.yaml").write_text("train: images\nnames: [a]\n")
    assert "annotations in 2 formats: voc, yolo; choose one with --dataset" in message(tmp_path)


def test_no_format_is_detected(tmp_path):
    (tmp_path / "pictures").mkdir()
    assert "contains the folders pictures. Looked for: COCO" in message(tmp_path)
    (tmp_path / "train" / "cat").mkdir(parents=True)
    assert "(one folder per class in train/ is for classifiers)" in message(tmp_path)
    assert "is not a folder" in message(tmp_path / "absent")
    with pytest.raises(UsageError, match="data_dir is empty"):
        load_annotations(SourceOptions(), "train")
