"""Ascend checks of the doctor: devices, CANN, its Python packages, the chip, and a comparison with the CPU."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from msdet.tools.doctor.machine import ROOT, Check, Machine

# `mindspore.run_check`, AscendEnvChecker of MindSpore 2.10.
_CANN_VERSIONS = ("8.2", "8.3", "8.5", "9.0", "9.1")
_PACKAGES = f"{sys.executable} -m pip install -r {ROOT / 'requirements-ascend.txt'}"
_SET_ENV = "source /usr/local/Ascend/ascend-toolkit/set_env.sh"
_CHIP = """
import msdet, mindspore as ms
from msdet.runtime.device import device_traits
own = device_traits()
precision = "float16" if own.float16_convolutions else "HF32"
shapes = "dynamic" if own.dynamic_shapes else "static"
overflow = "its status" if own.saturates else "infinite values"
print("target", ms.get_context("device_target"))
settings = f"jit_level {own.jit_level}, {precision} convolutions, {shapes} shapes"
print(f"chip {own.name}: {settings}, overflow detected by {overflow}")
"""
# Seconds; the graph engine compiles for minutes.
_STEP_LIMIT = 1800.0
# Largest relative difference of a loss from the CPU's: float16 and HF32 have 11 bits of significand, and the rounding
# errors of hundreds of layers add up. Chosen, not measured on a chip.
_LOSS_TOLERANCE = 1e-2


def ascend_checks(machine: Machine) -> Iterator[Check]:
    """Checks the Ascend devices and software, and whether MindSpore can use them."""
    cards, home = machine.davinci(), machine.environ("ASCEND_HOME_PATH")
    if not cards and not home and not machine.which("npu-smi"):
        yield Check("Ascend", "ok", "none; not needed")
        return
    text = f"{len(cards)} device(s)" if cards else "no /dev/davinci*"
    if not home:
        yield Check("Ascend", "warn", f"{text}; ASCEND_HOME_PATH is not set, so CANN is not active", _SET_ENV)
        return
    yield Check(
        "Ascend",
        "ok" if cards else "warn",
        text,
        "" if cards else "install the driver, or map the devices",
    )
    yield _cann(Path(home))
    for package in ("te", "hccl"):
        yield _package(machine, package)
    code, output = machine.run([sys.executable, "-c", _CHIP], 180)
    found = dict(line.split(" ", 1) for line in output.splitlines() if line.startswith(("target ", "chip ")))
    if code == 0 and found.get("target") == "Ascend":
        yield Check("chip", "ok", found["chip"])
    else:
        seen = f"MindSpore selects {found['target']}" if "target" in found else _last_line(output, code)
        yield Check("chip", "warn", seen, _SET_ENV)


def _cann(home: Path) -> Check:
    files = (home / "compiler" / "version.info", home / "version.info", *sorted(home.glob("*/version.info")))
    text = next((file.read_text(encoding="utf-8", errors="replace") for file in files if file.is_file()), "")
    version = re.search(r"(?im)^version\s*=\s*(\S+)", text)
    accepted = ", ".join(_CANN_VERSIONS)
    if not version:
        return Check("CANN", "warn", f"no version found in {home}", f"MindSpore 2.10 accepts {accepted}")
    if ".".join(version[1].split(".")[:2]) in _CANN_VERSIONS:
        return Check("CANN", "ok", f"{version[1]} in {home}")
    return Check(
        "CANN", "warn", f"{version[1]} in {home}", f"install a version that MindSpore 2.10 accepts: {accepted}"
    )


def _package(machine: Machine, name: str) -> Check:
    code, output = machine.run([sys.executable, "-c", f"import {name}; print({name}.__file__)"], 60)
    if code == 0:
        return Check(name, "ok", output.strip().splitlines()[-1])
    last = _last_line(output, code)
    # A missing package means a wrong path; a missing import of the package has to be installed.
    return Check(name, "warn", f"cannot be imported: {last}", _SET_ENV if f"'{name}'" in last else _PACKAGES)


def _last_line(output: str, code: int) -> str:
    lines = output.strip().splitlines()
    return lines[-1][:200] if lines else f"exit code {code}"


def compare_with_cpu(machine: Machine, device: str) -> Iterator[Check]:
    """Runs the same training steps on a device and on the CPU, and compares the losses."""
    losses = {}
    with tempfile.TemporaryDirectory() as folder:
        for target in ("CPU", device):
            file = Path(folder) / f"{target}.npy"
            command = [sys.executable, "-m", "msdet.tools.doctor.few_steps", "--device_target", target, str(file)]
            code, output = machine.run(command, _STEP_LIMIT)
            if code != 0 or not file.is_file():
                yield Check(
                    f"step on {target}",
                    "FAIL",
                    _last_line(output, code),
                    f"python -m msdet.tools.doctor.few_steps --device_target {target} losses.npy prints all of it",
                )
                return
            losses[target] = np.load(file)
    cpu_losses, device_losses = losses["CPU"], losses[device]
    difference = float(np.max(np.abs(device_losses - cpu_losses) / np.abs(cpu_losses)))
    shown = ", ".join(f"{loss:.4f}" for loss in device_losses)
    text = f"losses {shown}; relative difference to the CPU {difference:.1e}"
    if difference <= _LOSS_TOLERANCE:
        yield Check(f"step on {device}", "ok", text)
    else:
        # Also reached with NaN.
        yield Check(
            f"step on {device}", "FAIL", f"{text}, at most {_LOSS_TOLERANCE:g} is expected",
            "try --allow_hf32 0 and --jit_level O0, and report it with the CANN version",
        )  # fmt: skip
