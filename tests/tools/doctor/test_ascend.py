"""Ascend checks of the doctor on fake machines."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from msdet.tools.doctor.doctor import checks, main
from tests.tools.doctor.machines import FAST, HEALTHY, found

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
