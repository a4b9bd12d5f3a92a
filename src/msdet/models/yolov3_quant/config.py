"""Configuration keys of YOLOv3 on DarkNet53."""

from __future__ import annotations

from dataclasses import dataclass

from msdet.config import key
from msdet.models.yolo.config import YoloConfig

# (width, height) in px at 416, as published with YOLOv3: three each for strides 8, 16 and 32.
_ANCHORS = ((10, 13), (16, 30), (33, 23), (30, 61), (62, 45), (59, 119), (116, 90), (156, 198), (373, 326))


@dataclass(frozen=True)
class YoloV3Config(YoloConfig):
    """YOLOv3"""

    anchors: tuple[tuple[float, float], ...] = key(
        _ANCHORS, "nine anchors (width, height) in px, smallest first", above=0, maximum=4096
    )
    activation: str = key(
        "leaky",
        "activation function of the backbone: leaky as in darknet, relu as in the old zoo",
        choices=("leaky", "relu"),
    )
    image_id: str = key(
        "",
        "postprocess.py: .npy file with the image ids in the order that numbers the result files; empty: dataset order",
        path=True,
        affects_training=False,
    )
    image_shape: str = key(
        "",
        "postprocess.py: .npy file with the sizes of the images in px, in that order, to be verified",
        path=True,
        affects_training=False,
    )


MODEL_CONFIG = YoloV3Config
