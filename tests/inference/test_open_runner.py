"""Which runner runs a file, and what MindSpore starts with."""

from pathlib import Path

import pytest

from msdet.config import load_config
from msdet.errors import UsageError
from msdet.inference.open_runner import host_config, runner_for
from tests.exported import CONFIG


@pytest.mark.parametrize(
    ("name", "runner", "expected"),
    [
        ("x.ckpt", "auto", "checkpoint"), ("x.mindir", "auto", "mindspore"), ("x.onnx", "auto", "onnxruntime"),
        ("x.om", "auto", "om"), ("x.mindir", "mindspore_lite", "mindspore_lite"),
    ],
)  # fmt: skip
def test_by_suffix_or_as_given(name, runner, expected):
    assert runner_for(Path(name), runner) == expected


def test_what_no_runner_runs():
    with pytest.raises(UsageError, match=r"x\.pth: a checkpoint"):
        runner_for(Path("x.pth"))
    with pytest.raises(UsageError, match=r"runner om does not run \.onnx files; onnxruntime does"):
        runner_for(Path("x.onnx"), "om")


@pytest.mark.parametrize("runner", ["mindspore_lite", "om", "onnxruntime", "mindspore", "checkpoint"])
def test_mindspore_stays_on_the_host_where_another_computes(runner):
    path = Path({"om": "x.om", "onnxruntime": "x.onnx", "checkpoint": "x.ckpt"}.get(runner, "x.mindir"))
    flags = ["--device_target=Ascend", *([f"--runner={runner}"] if runner.startswith("mindspore") else [])]
    is_mindspore = runner in ("mindspore", "checkpoint")
    assert host_config(load_config(CONFIG, flags), path).device_target == ("Ascend" if is_mindspore else "CPU")
