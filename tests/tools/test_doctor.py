"""Each thing that can be wrong with a machine, faked; and one look at the real one."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from src import ONEDNN_VARIABLE
from src.tools.doctor import ROOT, Check, Machine, checks, main

VERSIONS = {
    "numpy": "1.26.4",
    "cv2": "4.11.0",
    "numba": "0.68.1",
    "msgspec": "0.22.0",
    "yaml": "6.0.3",
    "pydantic": "2.14.3",
    "tqdm": "4.70.1",
    "pycocotools.mask": "2.0.11",
    "hotcoco": "1.3.0",
    "matplotlib": "3.11.2",
    "tensorboardX": "2.6.5",
    "onnx": "1.23.2",
    "onnxruntime": "1.31.1",
}
FAST = "version 2.10.0\nseconds 0.012\n"


def versions(**changed):
    table = {**VERSIONS, **changed}

    def version(module):
        if isinstance(table[module], Exception):
            raise table[module]
        return table[module]

    return version


def answers(probe=(0, FAST), nvidia=(0, "Some Card\n")):
    return lambda command, _timeout: nvidia if command[0] == "nvidia-smi" else probe


HEALTHY = Machine(
    python=(3, 11, 7),
    version=versions(),
    run=answers(),
    which=lambda name: "/usr/bin/msrun" if name == "msrun" else None,
    davinci=list,
    environ={}.get,
    cores=lambda: 2,
    memory_gb=lambda: 16.0,
    disk_gb=lambda: 50.0,
)


def found(name: str, **changed) -> Check:
    [check] = [check for check in checks(dataclasses.replace(HEALTHY, **changed)) if check.name == name]
    return check


def test_a_healthy_machine(capsys):
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
        ("Python", {"python": (3, 13, 0)}, "3.13.0; MindSpore 2.10 has wheels for 3.10, 3.11 and 3.12", "venv"),
        ("Python", {"python": (3, 9, 1)}, "3.9.1", "venv"),
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
        ("MindSpore", {"run": answers((-4, ""))}, "cannot be imported: ended with code -4", "pip"),
        (
            "MindSpore",
            {"run": answers((0, FAST.replace("2.10.0", "1.8.1")))},
            "1.8.1; everything here was tested",
            "pip",
        ),
        (
            "convolution",
            {"run": answers((-1, "version 2.10.0\nno answer within 180 s"))},
            "does not run: no answer",
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
            "stop other",
        ),
    ],
)
def test_what_training_needs_fails(capsys, name, changed, text, remedy):
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
            "2.11.0; everything here was tested",
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
        ("Ascend", {"which": lambda name: name}, "no /dev/davinci*", "source "),
        ("GPU", {"which": lambda name: name}, "Some Card; the MindSpore 2.10 wheel serves CUDA 11.1 and 11.6", "CPU"),
        ("GPU", {"which": lambda name: name, "run": answers(nvidia=(9, ""))}, "nvidia-smi fails", "CPU"),
        ("resources", {"memory_gb": lambda: 1.5}, "1.5 GB of memory", "stop other"),
        ("resources", {"disk_gb": lambda: 0.5}, "0.5 GB of disk", "free some space"),
    ],
)
def test_what_training_does_without_only_warns(name, changed, text, remedy):
    check = found(name, **changed)
    assert (check.level, text in check.text, remedy in check.remedy) == ("warn", True, True), check
    assert main([], dataclasses.replace(HEALTHY, **changed)) == 0


def test_an_active_ascend_is_reported():
    check = found("Ascend", davinci=lambda: ["/dev/davinci0", "/dev/davinci1"], environ={"ASCEND_HOME_PATH": "/a"}.get)
    assert check.level == "ok" and check.text.startswith("2 device(s), CANN in /a")


def test_this_machine_can_train():
    done = subprocess.run(
        [sys.executable, "-m", "src.tools.doctor"], cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok    convolution: " in done.stdout
