"""What machine the numbers were measured on."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from msdet import ONEDNN_VARIABLE

_PACKAGES = ("mindspore", "onnxruntime", "numpy", "opencv-python-headless", "numba", "hotcoco", "pycocotools")
# Cores that programs of others may take before it shows.
_QUIET = 0.15


def describe(torch_python: str = "") -> dict[str, Any]:
    """Processor, what of AVX-512 it has, cores, preference and versions.

    Args:
        torch_python: see `torch_version`.
    """
    cpuinfo = _read("/proc/cpuinfo")
    flags = set(_field(cpuinfo, "flags").split())
    return {
        "cpu": _field(cpuinfo, "model name") or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "avx2": "avx2" in flags,
        "avx512": "avx512f" in flags,
        "vnni": bool(flags & {"avx512_vnni", "avx_vnni"}),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "preference": _preference(),
        "onednn_cap": os.environ.get(ONEDNN_VARIABLE, ""),
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := installed(name))}
        | ({"torch": torch} if (torch := torch_version(torch_python)) else {}),
    }


def installed(package: str) -> str:
    """Its version, or "" where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def torch_version(python: str = "") -> str:
    """Version of PyTorch, or "" where it is not installed.

    Args:
        python: the interpreter that has it; "" = this one.
    """
    if not python:
        return installed("torch")
    command = [python, "-c", "from importlib.metadata import version; print(version('torch'))"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def has_avx512() -> bool:
    """Whether this processor knows AVX-512."""
    return "avx512f" in _field(_read("/proc/cpuinfo"), "flags").split()


def sentence(machine: dict[str, Any]) -> str:
    """The machine in words."""
    known = [("AVX2", "avx2"), ("AVX-512", "avx512"), ("VNNI", "vnni")]
    has = ", ".join(f"{name} {'yes' if machine[key] else 'no'}" for name, key in known)
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    cap = machine["onednn_cap"]
    preference = f"; scheduled at {machine['preference']}" if machine["preference"] else ""
    return (
        f"{machine['cpu']} ({machine['architecture']}; {has}), {machine['cores']} cores, Python {machine['python']}, "
        f"{versions}; {ONEDNN_VARIABLE} {cap or 'not needed'}{preference}"
    )


class Bystanders:
    """How busy programs of others keep the machine from now on (Linux; elsewhere nothing is known)."""

    def __init__(self) -> None:
        self._begin = (time.perf_counter(), _busy_seconds(), _own_seconds())

    def cores(self) -> float | None:
        """Cores that others took on average; processes that this one started count once they have ended."""
        elapsed, busy, own = time.perf_counter() - self._begin[0], _busy_seconds(), _own_seconds() - self._begin[2]
        if busy is None or self._begin[1] is None:
            return None
        return max(0.0, busy - self._begin[1] - own) / elapsed


def quiet(others: float | None) -> bool:
    """Whether so many cores taken by others leave a measurement undisturbed."""
    return others is None or others <= _QUIET


def _preference() -> str:
    """How Linux prefers this process to others, "" where it treats all alike."""
    group = _read("/proc/self/autogroup").partition("nice")[2].strip() or "0"
    levels = {"nice": os.nice(0), "autogroup nice": int(group)}
    return ", ".join(f"{name} {level:+d}" for name, level in levels.items() if level)


def _own_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _busy_seconds() -> float | None:
    """Seconds that all cores together have worked since the machine was started; guests count in user time."""
    fields = _read("/proc/stat").split("\n", 1)[0].split()[1:9]
    if len(fields) < 8:
        return None
    user, nice, system, _idle, _wait, irq, softirq, _steal = map(int, fields)
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _field(cpuinfo: str, name: str) -> str:
    line = next((line for line in cpuinfo.splitlines() if line.startswith(name)), "")
    return line.partition(":")[2].strip()
