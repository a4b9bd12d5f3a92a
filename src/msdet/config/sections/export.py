"""Keys of export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from msdet.config.key import key


@dataclass(frozen=True)
class ExportKeys:
    """Export"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("export",)

    file_format: str = key(
        "MINDIR",
        "format of the exported file; AIR on Ascend only",
        choices=("AIR", "ONNX", "MINDIR"),
        affects_training=False,
    )
    file_name: str = key(
        "", "output file, with or without suffix; empty: the model name", path=True, affects_training=False
    )
    export_batch_size: int = key(
        1, "batch size of the exported file; 0: dynamic (MINDIR)", minimum=0, maximum=65536, affects_training=False
    )
    keep_detect: bool = key(
        True, "include the decoder: outputs are boxes and scores; False: raw maps", affects_training=False
    )
    keep_preprocess: bool = key(
        False,
        "include preprocessing: input is uint8 (N, h, w, 3); False: normalised float32 (N, 3, h, w) as in the old zoo",
        affects_training=False,
    )
    emulate_float16: bool = key(
        True,
        "also emulate the float16 precision modes of Ascend and report the difference to float32; False saves time",
        affects_training=False,
    )


@dataclass(frozen=True)
class QuantizedExportKeys:
    """int8 export"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("export", "compare")

    quantize: str = key(
        "auto",
        "int8: of a quantization-aware checkpoint; fake: with fake quantization (MINDIR); ptq: post-training "
        "quantization of a float checkpoint (ONNX); auto: float, and for a quantization-aware checkpoint int8 in ONNX, "
        "fake in MINDIR",
        choices=("auto", "int8", "fake", "ptq"),
        affects_training=False,
    )
    calibration: str = key("", "quantize ptq: folder of representative images", path=True, affects_training=False)
    calibration_images: int = key(100, "number of calibration images", minimum=1, affects_training=False)
