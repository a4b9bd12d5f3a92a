"""Keys of export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from msdet.config.key import key


@dataclass(frozen=True)
class ExportKeys:
    """Export"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("export",)

    file_format: str = key("MINDIR", "AIR on Ascend only", choices=("AIR", "ONNX", "MINDIR"), affects_training=False)
    file_name: str = key(
        "", "file to write, with or without suffix; empty: the model's name", path=True, affects_training=False
    )
    export_batch_size: int = key(
        1, "images a call of the exported file; 0: any (MINDIR)", minimum=0, maximum=65536, affects_training=False
    )
    keep_detect: bool = key(True, "boxes and scores come out; False: the raw maps", affects_training=False)
    keep_preprocess: bool = key(
        False,
        "uint8 pictures (N, h, w, 3) go in; False: normalised float32 (N, 3, h, w), as the old zoo's files",
        affects_training=False,
    )
    emulate_float16: bool = key(
        True,
        "compute the file once more with values rounded to float16, as Ascend does, and tell what that costs; False "
        "saves the time of an ONNX export",
        affects_training=False,
    )


@dataclass(frozen=True)
class QuantizedExportKeys:
    """int8 export"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("export", "compare")

    quantize: str = key(
        "auto",
        "int8: of a checkpoint trained for it; fake: with float rounding (MINDIR); ptq: of a float one, by calibration "
        "(ONNX); auto: float, or of a checkpoint trained for int8 int8 in ONNX and fake in MINDIR",
        choices=("auto", "int8", "fake", "ptq"),
        affects_training=False,
    )
    calibration: str = key(
        "", "folder of pictures like those the network will see, for quantize ptq", path=True, affects_training=False
    )
    calibration_images: int = key(100, "pictures of that folder to look at", minimum=1, affects_training=False)
