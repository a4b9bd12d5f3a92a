"""Keys of prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from msdet.config.key import key


@dataclass(frozen=True)
class PredictKeys:
    """Prediction"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("predict",)

    source: str = key("", "picture, folder, pattern, video, or number of a camera", path=True, affects_training=False)
    output: str = key(
        "", "folder of predictions.json and pictures; empty: in log_path, by date", path=True, affects_training=False
    )
    draw_threshold: float = key(
        0.3, "detections of a lower score are written but not drawn", minimum=0, maximum=1, affects_training=False
    )
    save_pictures: bool = key(True, "draw and save the pictures or the video", affects_training=False)
    max_frames: int = key(0, "most frames of a video or camera; 0: all", minimum=0, affects_training=False)


@dataclass(frozen=True)
class RunnerKeys:
    """Runner of an exported file"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("predict", "postprocess")

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
