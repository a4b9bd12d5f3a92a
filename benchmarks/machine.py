"""What machine the numbers were measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from src import ONEDNN_VARIABLE

_PACKAGES = ("mindspore", "torch", "onnxruntime", "numpy", "opencv-python-headless", "numba", "hotcoco", "pycocotools")
# On a machine of N cores work of others below this share of a core does not show.
_QUIET_LOAD = 0.3


def describe() -> dict[str, Any]:
    """Processor, what of AVX-512 it has, cores, load and versions."""
    cpuinfo = _read("/proc/cpuinfo")
    flags = set(_field(cpuinfo, "flags").split())
    return {
        "cpu": _field(cpuinfo, "model name") or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "avx2": "avx2" in flags,
        "avx512": "avx512f" in flags,
        "vnni": bool(flags & {"avx512_vnni", "avx_vnni"}),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "onednn_cap": os.environ.get(ONEDNN_VARIABLE, ""),
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := installed(name))},
    }


def installed(package: str) -> str:
    """Its version, or "" where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
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
    return (
        f"{machine['cpu']} ({machine['architecture']}; {has}), {machine['cores']} cores, Python {machine['python']}, "
        f"{versions}; {ONEDNN_VARIABLE} {cap or 'not needed'}"
    )


def is_quiet(machine: dict[str, Any]) -> bool:
    """Whether nothing else was running when the measurement began."""
    return machine["load_before"] <= _QUIET_LOAD


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _field(cpuinfo: str, name: str) -> str:
    line = next((line for line in cpuinfo.splitlines() if line.startswith(name)), "")
    return line.partition(":")[2].strip()
