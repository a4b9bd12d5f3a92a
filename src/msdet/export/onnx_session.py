"""Options of onnxruntime for this processor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def session_options() -> Any:
    """Session options of onnxruntime.

    On processors without VNNI its fast int8 kernels accumulate pairs of products in 16 bits with saturation; the exact
    kernels are selected instead. Float files are not affected.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if not has_vnni():
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def has_vnni(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor has int8 dot products with 32-bit accumulation, according to /proc/cpuinfo."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags: Sequence[str] = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    return any(flag in flags for flag in ("avx512_vnni", "avx_vnni", "amx_int8"))
