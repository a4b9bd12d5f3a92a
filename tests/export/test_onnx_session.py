"""What /proc/cpuinfo says about int8 dot products."""

import pytest

from msdet.export.onnx_session import has_vnni


@pytest.mark.parametrize(
    ("flags", "expected"), [("fpu avx2 avx512_vnni", True), ("fpu avx_vnni", True), ("fpu avx2 avx512f", False)]
)
def test_vnni(tmp_path, flags, expected):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n\nprocessor : 1\n")
    assert has_vnni(tmp_path / "cpuinfo") is expected
    assert not has_vnni(tmp_path / "none")
