"""Keys of prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from msdet.config.key import key


@dataclass(frozen=True)
class PredictKeys:
    """Prediction"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("predict",)

    source: str = key("", "image, folder, glob pattern, video, or camera number", path=True, affects_training=False)
    output: str = key(
        "",
        "folder of predictions.json and drawn images; empty: a folder in log_path named by date and time",
        path=True,
        affects_training=False,
    )
    draw_threshold: float = key(
        0.3,
        "score threshold for drawing; predictions.json holds lower scores too",
        minimum=0,
        maximum=1,
        affects_training=False,
    )
    save_pictures: bool = key(True, "save images or the video with detections drawn", affects_training=False)
    max_frames: int = key(0, "maximum number of frames of a video or camera; 0: all", minimum=0, affects_training=False)


@dataclass(frozen=True)
class RunnerKeys:
    """Runner of an exported file"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("predict", "postprocess")

    runner: str = key(
        "auto",
        "runtime of the file; auto: by its suffix (.mindir: MindSpore, .onnx: onnxruntime, .om: CANN's ais_bench)",
        choices=("auto", "mindspore", "onnxruntime", "mindspore_lite", "om"),
        affects_training=False,
    )
    precision_mode: str = key(
        "preferred_fp32",
        "precision on Ascend, for runner mindspore_lite and atc.sh; preferred_fp32 runs convolutions in float16; the "
        "default of MindSpore Lite is enforce_fp16",
        choices=("preferred_fp32", "enforce_fp16", "enforce_fp32", "enforce_origin", "preferred_optimal"),
        affects_training=False,
    )
