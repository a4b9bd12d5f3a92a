"""Describes the machine that the benchmarks run on."""

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
# Cores that other programs may use without affecting a measurement.
_QUIET = 0.15


def describe(torch_python: str = "") -> dict[str, Any]:
    """Processor, its vector extensions, cores, scheduling priority and versions.

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
        "preference": _priority(),
        "onednn_cap": os.environ.get(ONEDNN_VARIABLE, ""),
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := installed(name))}
        | ({"torch": torch} if (torch := torch_version(torch_python)) else {}),
    }


def installed(package: str) -> str:
    """The version of a package, or "" if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def torch_version(python: str = "") -> str:
    """The version of PyTorch, or "" if it is not installed.

    Args:
        python: interpreter to look in; "" = this one.
    """
    if not python:
        return installed("torch")
    command = [python, "-c", "from importlib.metadata import version; print(version('torch'))"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def has_avx512() -> bool:
    """Whether the processor supports AVX-512."""
    return "avx512f" in _field(_read("/proc/cpuinfo"), "flags").split()


def sentence(machine: dict[str, Any]) -> str:
    """The machine as one line of text."""
    known = [("AVX2", "avx2"), ("AVX-512", "avx512"), ("VNNI", "vnni")]
    has = ", ".join(f"{name} {'yes' if machine[key] else 'no'}" for name, key in known)
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    cap = machine["onednn_cap"]
    preference = f"; scheduled at {machine['preference']}" if machine["preference"] else ""
    return (
        f"{machine['cpu']} ({machine['architecture']}; {has}), {machine['cores']} cores, Python {machine['python']}, "
        f"{versions}; {ONEDNN_VARIABLE} {cap or 'not needed'}{preference}"
    )


class OtherLoad:
    """Measures the load of other programs from now on (Linux only)."""

    def __init__(self) -> None:
        self._begin = (time.perf_counter(), _busy_seconds(), _own_seconds())

    def cores(self) -> float | None:
        """Average number of cores used by other programs, None if unknown. Child processes count as own once ended."""
        elapsed, busy, own = time.perf_counter() - self._begin[0], _busy_seconds(), _own_seconds() - self._begin[2]
        if busy is None or self._begin[1] is None:
            return None
        return max(0.0, busy - self._begin[1] - own) / elapsed


def quiet(others: float | None) -> bool:
    """Whether this load of other programs does not affect a measurement."""
    return others is None or others <= _QUIET


def _priority() -> str:
    """Scheduling priority of this process relative to the default, "" if it is the default."""
    group = _read("/proc/self/autogroup").partition("nice")[2].strip() or "0"
    levels = {"nice": os.nice(0), "autogroup nice": int(group)}
    return ", ".join(f"{name} {level:+d}" for name, level in levels.items() if level)


def _own_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _busy_seconds() -> float | None:
    """CPU seconds of all cores since boot; guest time is part of user time."""
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
