"""Simulated problems of a machine, and the doctor on the real one."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from msdet import ONEDNN_VARIABLE
from msdet.tools.doctor.doctor import checks, main
from msdet.tools.doctor.few_steps import losses_on
from msdet.tools.doctor.machine import ROOT, Check, Machine

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
    missing_letters=lambda text: [],  # fonts for every script
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


CHIP = "target Ascend\nchip Ascend Atlas A2: jit_level O0\n"
ASCEND = ("Ascend", "CANN", "te", "hccl", "chip")


def ascend(tmp_path, version="Version=8.5.0\n", chip=(0, CHIP), **packages):
    """A healthy Ascend server; the answers of CANN, MindSpore and packages can be changed."""
    (tmp_path / "compiler").mkdir(exist_ok=True)
    (tmp_path / "compiler" / "version.info").write_text(version)

    def run(command, _timeout):
        imported = command[-1].split(";")[0].removeprefix("import ")
        if imported in ("te", "hccl"):
            return packages.get(imported, (0, f"noise\n/cann/{imported}/__init__.py\n"))
        return chip if "device_traits" in command[-1] else (0, FAST)

    environ = {"ASCEND_HOME_PATH": str(tmp_path)}.get
    return {"davinci": lambda: ["/dev/davinci0", "/dev/davinci1"], "environ": environ, "run": run}


def test_healthy_ascend(tmp_path):
    machine = dataclasses.replace(HEALTHY, **ascend(tmp_path))
    shown = {check.name: check for check in checks(machine)}
    assert [shown[name].level for name in ASCEND] == ["ok"] * 5
    assert [shown[name].text for name in ASCEND] == [
        "2 device(s)", f"8.5.0 in {tmp_path}", "/cann/te/__init__.py", "/cann/hccl/__init__.py",
        "Ascend Atlas A2: jit_level O0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "name", "text", "remedy"),
    [
        ({"version": "Version=7.0.1\n"}, "CANN", "7.0.1 in", "accepts: 8.2, 8.3, 8.5, 9.0, 9.1"),
        ({"version": "nothing\n"}, "CANN", "no version found in", "8.5"),
        ({"te": (1, "ModuleNotFoundError: No module named 'te'")}, "te", "No module named 'te'", "set_env.sh"),
        ({"te": (1, "ModuleNotFoundError: No module named 'decorator'")}, "te", "'decorator'", "requirements-ascend"),
        ({"hccl": (-11, "")}, "hccl", "exit code -11", "requirements-ascend"),
        ({"chip": (0, "target CPU\nchip CPU: O0\n")}, "chip", "MindSpore selects CPU", "set_env.sh"),
        ({"chip": (1, "RuntimeError: no driver")}, "chip", "RuntimeError: no driver", "set_env.sh"),
    ],
)
def test_incomplete_ascend_warns(tmp_path, changed, name, text, remedy):
    check = found(name, **ascend(tmp_path, **changed))
    assert (check.level, text in check.text, remedy in check.remedy) == ("warn", True, True), check


def machine_with_losses(losses):
    """A machine whose devices return these losses; None: the step fails."""

    def run(command, _timeout):
        if "msdet.tools.doctor.few_steps" not in command:
            return 0, FAST
        found = losses[command[command.index("--device_target") + 1]]
        if found is None:
            return 1, "Trace\nRuntimeError: the kernel is missing"
        np.save(command[-1], np.array(found))
        return 0, ""

    return dataclasses.replace(HEALTHY, run=run)


@pytest.mark.parametrize(
    ("device_losses", "code", "text"),
    [
        ([4.0, 3.01, 2.0], 0, "2.0000; relative difference to the CPU 3.3e-03"),
        ([4.0, 3.1, 2.0], 1, "FAIL  step on Ascend: losses 4.0000, 3.1000, 2.0000; relative difference"),
        ([4.0, float("nan"), 2.0], 1, "relative difference to the CPU nan, at most 0.01 is expected"),
        (None, 1, "FAIL  step on Ascend: RuntimeError: the kernel is missing"),
    ],
)
def test_step_is_compared_with_the_cpu(capsys, device_losses, code, text):
    assert main(["--device", "Ascend"], machine_with_losses({"CPU": [4.0, 3.0, 2.0], "Ascend": device_losses})) == code
    shown = capsys.readouterr().out
    assert text in shown and ("training on CPU and Ascend will work" in shown) == (code == 0)


def test_comparison_steps_reduce_the_loss(graph_mode):
    losses = losses_on("CPU")
    assert len(losses) == 3 and losses[2] < losses[0]


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
