"""The commands `msdet eval` and `msdet test`: input that they refuse before anything is opened."""

import json
import zipfile

import pytest

from msdet.cli import command
from msdet.evaluation.command import zip_result_file
from tests.in_process import run

pytestmark = pytest.mark.usefixtures("at_root")


def test_a_classifier_cannot_be_tested_on_the_coco_server(tmp_path, capsys):
    flags = ("--pretrained=weights.ckpt", f"--log_path={tmp_path}/out")
    assert run(command("test"), "--config=configs/darknet53_imagenet.yaml", *flags) == 2
    message = capsys.readouterr().err
    assert "darknet53 is a classifier" in message and "msdet eval" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["eval", "test"])
def test_weights_are_required(tmp_path, capsys, name):
    assert run(command(name), "--config=configs/yolov3.yaml", f"--log_path={tmp_path}/out") == 2
    assert "--pretrained" in capsys.readouterr().err


def test_the_archive_holds_the_result_file_under_the_name_of_the_archive(tmp_path):
    (tmp_path / "predict.json").write_text("[]")
    archive = zip_result_file(tmp_path / "predict.json", "detections_test-dev2017_yolov4_results")
    assert archive == tmp_path / "detections_test-dev2017_yolov4_results.zip"
    with zipfile.ZipFile(archive) as file:
        assert file.namelist() == ["detections_test-dev2017_yolov4_results.json"]
        assert json.loads(file.read(file.namelist()[0])) == []
