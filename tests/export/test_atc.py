"""The atc command line."""

from __future__ import annotations

from pathlib import Path

from msdet.export.atc import atc_command
from msdet.export.spec import ExportSpec


def test_the_command_for_an_om():
    spec = ExportSpec((320, 320), 0, True, True, valid_sizes=True)
    text = atc_command(Path("m/net.mindir"), spec, "preferred_fp32")
    assert "write net.onnx with export.py" in text and "--model=m/net.onnx --output=m/net " in text
    assert "--input_shape=images:1,320,320,3;valid_sizes:1,2" in text.replace("'", "") and "--framework=5" in text
    assert "--framework=1 --model=net.air" in atc_command(
        Path("net.air"), ExportSpec((320, 320), 1, False, False), "enforce_fp16"
    )
