"""How onnxruntime runs a file on this processor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def session_options() -> Any:
    """onnxruntime's options for this processor.

    Without VNNI its fast kernels for int8 add pairs of products in 16 bits and cut off what does not fit; those that
    are exact are asked for instead. Float files are not affected.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if not has_vnni():
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def has_vnni(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor multiplies int8 with sums in 32 bits, by what Linux says of it."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags: Sequence[str] = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    return any(flag in flags for flag in ("avx512_vnni", "avx_vnni", "amx_int8"))
