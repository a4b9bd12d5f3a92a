"""Object-detection models on MindSpore.

Importing this package lets a process say what to do where a package is not installed (`missing_package.py`), and makes
one setting, before MindSpore is loaded: on x86-64 with AVX-512, oneDNN would run every convolution larger than 1x1 with
its reference kernel, hundreds of times slower, because MindSpore hands over plain NCHW tensors. Restricted to AVX2 it
uses its fast kernel. A value the user has set stays.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from msdet.missing_package import explain_missing_packages

ONEDNN_VARIABLE = "ONEDNN_MAX_CPU_ISA"


def needs_avx2_cap(system: str, machine: str, cpuinfo: str) -> bool:
    """Whether oneDNN must be kept from AVX-512 on such a machine.

    Args:
        system: as `platform.system()`; machine: as `platform.machine()`.
        cpuinfo: text of /proc/cpuinfo, or "" where there is none.
    """
    if system != "Linux" or machine.lower() not in ("x86_64", "amd64"):
        return False
    flags = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "")
    return "avx512f" in flags.split()


def _cap_onednn() -> None:
    if platform.system() != "Linux" or ONEDNN_VARIABLE in os.environ:
        return
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    if needs_avx2_cap(platform.system(), platform.machine(), cpuinfo):
        os.environ.setdefault(ONEDNN_VARIABLE, "AVX2")


_cap_onednn()
explain_missing_packages()
