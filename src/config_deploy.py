"""The keys of export.py and predict.py, in the form of `src/config_keys.py`."""

from __future__ import annotations

from dataclasses import dataclass

from src.config_values import key


@dataclass(frozen=True)
class ExportKeys:
    """Export"""

    file_format: str = key("MINDIR", "AIR on Ascend only", choices=("AIR", "ONNX", "MINDIR"), affects_training=False)
    file_name: str = key(
        "", "file to write, with or without suffix; empty: the model's name", path=True, affects_training=False
    )
    export_batch_size: int = key(
        1, "images a call of the exported file; 0: any (MINDIR)", minimum=0, maximum=65536, affects_training=False
    )
    keep_detect: bool = key(True, "boxes and scores come out; False: the raw maps", affects_training=False)
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
class PredictKeys:
    """Prediction"""

    source: str = key("", "picture, folder, pattern, video, or number of a camera", path=True, affects_training=False)
    output: str = key(
        "", "folder of predictions.json and pictures; empty: in log_path, by date", path=True, affects_training=False
    )
    runner: str = key(
        "auto",
        "what computes; auto: by the suffix of the file (.mindir by MindSpore; .om by CANN's ais_bench)",
        choices=("auto", "mindspore", "onnxruntime", "mindspore_lite", "om"),
        affects_training=False,
    )
    precision_mode: str = key(
        "preferred_fp32",
        "precision on Ascend of runner mindspore_lite and of atc.sh: preferred_fp32 computes convolutions in float16; "
        "Lite's own default is enforce_fp16",
        choices=("preferred_fp32", "enforce_fp16", "enforce_fp32", "enforce_origin", "preferred_optimal"),
        affects_training=False,
    )
    draw_threshold: float = key(
        0.3, "detections of a lower score are written but not drawn", minimum=0, maximum=1, affects_training=False
    )
    save_pictures: bool = key(True, "draw and save the pictures or the video", affects_training=False)
    max_frames: int = key(0, "most frames of a video or camera; 0: all", minimum=0, affects_training=False)
