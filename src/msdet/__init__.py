"""Object-detection models on MindSpore.

Importing this package has two side effects. It installs an exception hook that explains missing packages
(`missing_package.py`). And it limits oneDNN to AVX2, before MindSpore is loaded: with AVX-512, oneDNN runs convolutions
larger than 1x1 on MindSpore's plain NCHW tensors with its reference kernel, hundreds of times slower than its AVX2
kernel. A value of ONEDNN_MAX_CPU_ISA that the user has set is kept.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from msdet.missing_package import explain_missing_packages

ONEDNN_VARIABLE = "ONEDNN_MAX_CPU_ISA"


def needs_avx2_cap(system: str, machine: str, cpuinfo: str) -> bool:
    """Whether oneDNN has to be limited to AVX2 on this machine.

    Args:
        system: as `platform.system()`.
        machine: as `platform.machine()`.
        cpuinfo: content of /proc/cpuinfo, or "" if there is none.
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
