"""Configuration keys of EfficientDet-D0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from msdet.config import Config, key


@dataclass(frozen=True)
class EfficientDetConfig(Config):
    """EfficientDet-D0"""

    # Common keys with other defaults: those of the published network.
    training_shape: str = key("512", "fixed training size in px, a multiple of 128")
    testing_shape: int = key(512, "square input size in px at evaluation", minimum=128, maximum=4096)
    resize: str = key("letterbox_top_left", "resize mode", choices=("letterbox_top_left",))
    label_map: str = key(
        "coco_id_minus_1",
        "label of a category: its index in class_names, or its COCO id - 1",
        choices=("dense", "coco_id_minus_1"),
    )
    max_boxes: int = key(
        128,
        "ground-truth boxes per image after padding; an image with more enlarges the batch unless cut_boxes is set",
        minimum=1,
    )
    jitter_scale: tuple[float, float] = key(
        (1.0, 1.0), "range of the random scale factor; 1,1: no scaling", above=0, maximum=16
    )
    eval_ignore_threshold: float = key(
        0.05, "score threshold: detections below it are dropped", minimum=0, maximum=1, affects_training=False
    )
    max_detections: int = key(100, "maximum detections per image", minimum=1, affects_training=False)

    backbone_shape: tuple[int, ...] = key(
        (32, 16, 24, 40, 80, 112, 192, 320), "channels of the stem and the seven stages", minimum=1, maximum=8192
    )
    backbone_layers: tuple[int, ...] = key((1, 2, 2, 3, 3, 4, 1), "blocks of the seven stages", minimum=1, maximum=64)
    pyramid_channels: int = key(64, "channels of the BiFPN and the heads", minimum=1, maximum=8192)
    pyramid_repeats: int = key(3, "number of BiFPN layers", minimum=1, maximum=16)
    head_repeats: int = key(3, "convolutions of a head before the prediction layer", minimum=1, maximum=16)
    pool_padding: str = key(
        "ignore",
        "padding of max pooling: ignored as in TensorFlow, or zeros as in zylo117's port and weights",
        choices=("ignore", "zero"),
    )
    drop_connect: float = key(0.2, "drop-connect rate of the last residual block", minimum=0, maximum=0.99)
    bn_momentum: float = key(
        0.99, "batch norm: fraction of the old running statistics kept per step", minimum=0, maximum=1
    )
    bn_eps: float = key(1e-3, "batch norm epsilon", above=0, maximum=0.1)
    focal_alpha: float = key(0.25, "focal loss: weight of positives; negatives have 1 - alpha", minimum=0, maximum=1)
    focal_gamma: float = key(2.0, "focal loss: focusing parameter gamma", minimum=0, maximum=10)
    box_loss: str = key(
        "smooth_l1",
        "box loss: smooth L1, d^2 / (2 beta) for d < beta, else d - beta / 2; huber: beta times that",
        choices=("smooth_l1", "huber"),
    )
    box_loss_beta: float = key(1 / 9, "beta of box_loss, in units of the regression targets", above=0, maximum=10)
    box_loss_weight: float = key(50.0, "weight of the box loss", minimum=0)
    positive_iou: float = key(0.5, "an anchor is positive if its IoU with a box is at least this", minimum=0, maximum=1)
    negative_iou: float = key(
        0.4,
        "an anchor is negative if its IoU with every box is below this; between the two thresholds it is ignored",
        minimum=0,
        maximum=1,
    )
    force_match: bool = key(False, "make the anchor with the highest IoU positive for each box, whatever the IoU")
    loss_normalizer: str = key(
        "image",
        "divide the losses by the positive anchors of each image and average, or by those of the batch + 1",
        choices=("image", "batch"),
    )

    SIZE_MULTIPLE: ClassVar[int] = 128
    NARROW: ClassVar[Mapping[str, Any]] = {
        "backbone_shape": (8, 4, 4, 8, 8, 8, 8, 16),
        # The second stage repeats a block: a single block has no residual connection.
        "backbone_layers": (1, 2, 1, 1, 1, 1, 1),
        "pyramid_channels": 8,
        "pyramid_repeats": 1,
        "head_repeats": 1,
        "testing_shape": 128,
    }
    UNUSED: ClassVar[tuple[str, ...]] = (
        "training_interpolation",
        "jitter",
        "hue",
        "saturation",
        "value",
        "label_smooth",
        "label_smooth_factor",
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if len(self.backbone_shape) != 8:
            yield "backbone_shape", f"has {len(self.backbone_shape)} values; it takes 8: the stem and seven stages"
        if len(self.backbone_layers) != 7:
            yield "backbone_layers", f"has {len(self.backbone_layers)} values; it takes 7, one per stage"
        if len(self.training_sizes) > 1:
            yield (
                "training_shape",
                "is empty; EfficientDet trains at one size: use jitter_scale",
            )
        if self.negative_iou > self.positive_iou:
            yield "negative_iou", f"is {self.negative_iou:g}, above positive_iou {self.positive_iou:g}"


MODEL_CONFIG = EfficientDetConfig
