"""Simulated problems of a machine, and the doctor on the real one."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from msdet import ONEDNN_VARIABLE
from msdet.tools.doctor.doctor import main
from msdet.tools.doctor.machine import ROOT
from tests.tools.doctor.machines import FAST, HEALTHY, answers, found, versions


def test_healthy_machine(capsys):
    assert main([], HEALTHY) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "training on CPU will work"
    assert all(line.startswith("ok    ") for line in lines[:-1])
    for name in (
        "Python",
        "numpy",
        "MindSpore",
        "OpenCV",
        "convolution",
        "pycocotools",
        "onnxruntime",
        "msrun",
        "Ascend",
        "GPU",
    ):
        assert any(line.startswith(f"ok    {name}: ") for line in lines), name
    assert main(["--quiet"], HEALTHY) == 0
    assert capsys.readouterr().out == ""


SLOW = "version 2.10.0\nseconds 1.8\n"


@pytest.mark.parametrize(
    ("name", "changed", "text", "remedy"),
    [
        ("Python", {"python": (3, 13, 0)}, "3.13.0; this package needs 3.11 or 3.12", "venv"),
        ("Python", {"python": (3, 10, 9)}, "3.10.9", "venv"),
        ("numpy", {"version": versions(numpy="2.1.0")}, "2.1.0 is too new", "pip install -r"),
        ("numpy", {"version": versions(numpy=ModuleNotFoundError("No module named 'numpy'"))}, "not installed", "pip"),
        ("OpenCV", {"version": versions(cv2="5.0.0")}, "5.0.0 is too new", "pip install -r"),
        (
            "OpenCV",
            {"version": versions(cv2=ImportError("libGL.so.1: cannot open"))},
            "cannot be imported: libGL",
            "pip",
        ),
        ("OpenCV", {"version": versions(cv2=SystemError())}, "cannot be imported: SystemError", "pip"),
        ("numba", {"version": versions(numba=ModuleNotFoundError("numba"))}, "not installed", "pip"),
        ("pydantic", {"version": versions(pydantic=ModuleNotFoundError("x"))}, "not installed", "pip"),
        ("MindSpore", {"run": answers((1, "No module named 'mindspore'"))}, "not installed", "pip"),
        (
            "MindSpore",
            {"run": answers((1, "Trace\nImportError: libx"))},
            "cannot be imported: ImportError: libx",
            "pip",
        ),
        ("MindSpore", {"run": answers((-4, ""))}, "cannot be imported: exit code -4", "pip"),
        (
            "MindSpore",
            {"run": answers((0, FAST.replace("2.10.0", "1.8.1")))},
            "1.8.1; the tested version is",
            "pip",
        ),
        (
            "convolution",
            {"run": answers((-1, "version 2.10.0\ntimed out after 180 s"))},
            "does not run: timed out",
            "pip",
        ),
        ("convolution", {"run": answers((0, SLOW))}, "reference kernel: 0.1 GMAC/s", f"export {ONEDNN_VARIABLE}=AVX2"),
        (
            "convolution",
            {"run": answers((0, SLOW)), "environ": {ONEDNN_VARIABLE: "ALL"}.get},
            f"{ONEDNN_VARIABLE}=ALL",
            f"unset {ONEDNN_VARIABLE}",
        ),
        (
            "convolution",
            {"run": answers((0, SLOW)), "environ": {ONEDNN_VARIABLE: "AVX2"}.get},
            "very slow",
            "close other",
        ),
    ],
)
def test_missing_requirement_fails(capsys, name, changed, text, remedy):
    check = found(name, **changed)
    assert (check.level, text in check.text, remedy in check.remedy) == ("FAIL", True, True), check
    assert main(["--quiet"], dataclasses.replace(HEALTHY, **changed)) == 1
    assert f"FAIL  {name}: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "changed", "text", "remedy"),
    [
        (
            "MindSpore",
            {"run": answers((0, FAST.replace("2.10.0", "2.11.0")))},
            "2.11.0; the tested version is",
            "pip",
        ),
        (
            "pycocotools",
            {"version": versions(**{"pycocotools.mask": ModuleNotFoundError("x")})},
            "score detections",
            "pip",
        ),
        ("hotcoco", {"version": versions(hotcoco=ModuleNotFoundError("x"))}, "not installed", "pip"),
        ("onnxruntime", {"version": versions(onnxruntime=ModuleNotFoundError("x"))}, "export to ONNX", "pip"),
        ("msrun", {"which": lambda _: None}, "not on PATH", "export PATH="),
        ("Ascend", {"davinci": lambda: ["/dev/davinci0"]}, "1 device(s); ASCEND_HOME_PATH is not set", "source "),
        ("Ascend", {"which": lambda name: name}, "no /dev/davinci*; ASCEND_HOME_PATH is not set", "source "),
        ("GPU", {"which": lambda name: name}, "Some Card; the MindSpore 2.10 wheel supports CUDA 11.1 and 11.6", "CPU"),
        ("GPU", {"which": lambda name: name, "run": answers(nvidia=(9, ""))}, "nvidia-smi fails", "CPU"),
        ("resources", {"memory_gb": lambda: 1.5}, "1.5 GB of memory", "close other"),
        ("resources", {"disk_gb": lambda: 0.5}, "0.5 GB of disk", "free disk space"),
    ],
)
def test_missing_optional_component_warns(name, changed, text, remedy):
    check = found(name, **changed)
    assert (check.level, text in check.text, remedy in check.remedy) == ("warn", True, True), check
    assert main([], dataclasses.replace(HEALTHY, **changed)) == 0


def test_this_machine_can_train():
    done = subprocess.run(
        [sys.executable, "-m", "msdet", "doctor"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok    convolution: " in done.stdout
