"""Configuration keys of YOLOv4 on CSPDarkNet53."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from msdet.config import key
from msdet.models.yolo.config import YoloConfig

# (width, height) in px at 608, as published with YOLOv4: three each for strides 8, 16 and 32.
_ANCHORS = ((12, 16), (19, 36), (40, 28), (36, 75), (76, 55), (72, 146), (142, 110), (192, 243), (459, 401))


@dataclass(frozen=True)
class ServerKeys:
    """Detections for COCO's test server"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("test",)

    test_nms_thresh: float = key(0.6, "nms_thresh of test.py", minimum=0, maximum=1, affects_training=False)
    test_ignore_threshold: float = key(
        0.001, "eval_ignore_threshold of test.py", minimum=0, maximum=1, affects_training=False
    )


@dataclass(frozen=True)
class YoloV4Config(ServerKeys, YoloConfig):
    """YOLOv4"""

    anchors: tuple[tuple[float, float], ...] = key(
        _ANCHORS, "nine anchors (width, height) in px, smallest first", above=0, maximum=4096
    )
    activation: str = key(
        "mish",
        "activation function of the backbone; mish_tanh is mish computed as in the old zoo (differs by 1e-4 on CPU)",
        choices=("mish", "mish_tanh"),
    )
    class_prior: float = key(
        0.01,
        "initial class probability of an untrained network; 0.5 as in the published trainings",
        above=0,
        maximum=0.5,
    )
    scale_x_y: tuple[float, float, float] = key(
        (1.2, 1.1, 1.05),
        "grid sensitivity: scale of the box centre within its cell at strides 8, 16, 32; 1: unscaled",
        minimum=1,
        maximum=2,
    )
    iou_loss: str = key("ciou", "box loss: 1 - IoU of this kind", choices=("ciou", "diou", "giou"))
    bbox_class_loss_coff: tuple[float, float, float] = key(
        (10.0, 1.0, 1.0), "weights of the box, confidence and class losses", minimum=0
    )
    detect_head_loss_coff: tuple[float, float, float] = key(
        (1.0, 1.0, 1.0), "weights of the losses of the maps of strides 32, 16, 8", minimum=0
    )
    mosaic: bool = key(False, "mosaic augmentation")
    mosaic_probability: float = key(0.5, "probability of a mosaic where mosaic is enabled", minimum=0, maximum=1)


MODEL_CONFIG = YoloV4Config
