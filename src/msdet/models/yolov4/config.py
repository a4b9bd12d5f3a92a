"""Keys of YOLOv4 on CSPDarkNet53."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from msdet.config import key
from msdet.models.yolo.config import YoloConfig

# (width, height) in px at 608, as published with YOLOv4: three for stride 8, then for stride 16, then for stride 32.
_ANCHORS = ((12, 16), (19, 36), (40, 28), (36, 75), (76, 55), (72, 146), (142, 110), (192, 243), (459, 401))


@dataclass(frozen=True)
class ServerKeys:
    """Detections for the test server"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("test",)

    test_nms_thresh: float = key(0.6, "nms_thresh of test.py", minimum=0, maximum=1, affects_training=False)
    test_ignore_threshold: float = key(
        0.001, "eval_ignore_threshold of test.py", minimum=0, maximum=1, affects_training=False
    )


@dataclass(frozen=True)
class YoloV4Config(ServerKeys, YoloConfig):
    """YOLOv4"""

    anchors: tuple[tuple[float, float], ...] = key(
        _ANCHORS, "nine (width, height) in px, smallest first", above=0, maximum=4096
    )
    activation: str = key(
        "mish",
        "of the backbone; mish_tanh is the same function computed as in the old zoo: on CPU 1e-4 off",
        choices=("mish", "mish_tanh"),
    )
    class_prior: float = key(
        0.01,
        "probability of each class that an untrained network starts with; 0.5 as objectness_prior",
        above=0,
        maximum=0.5,
    )
    scale_x_y: tuple[float, float, float] = key(
        (1.2, 1.1, 1.05), "stretch of a centre within its cell at strides 8, 16, 32; 1 is none", minimum=1, maximum=2
    )
    iou_loss: str = key("ciou", "loss of the boxes: one minus this", choices=("ciou", "diou", "giou"))
    bbox_class_loss_coff: tuple[float, float, float] = key(
        (10.0, 1.0, 1.0), "factors of the losses of box, confidence and class", minimum=0
    )
    detect_head_loss_coff: tuple[float, float, float] = key(
        (1.0, 1.0, 1.0), "factors of the losses of the maps of strides 32, 16, 8", minimum=0
    )
    mosaic: bool = key(False, "train on mosaics of four images as well")
    mosaic_probability: float = key(0.5, "probability of a mosaic, if there are any", minimum=0, maximum=1)


MODEL_CONFIG = YoloV4Config
