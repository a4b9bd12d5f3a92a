"""Configuration keys of RefineDet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from msdet.config import Config, key

# Lengths of backbone_shape and backbone_layers.
_STAGES = {"vgg16": (6, "five stages and fc6", 5), "resnet101": (5, "the stem and four stages", 4)}


@dataclass(frozen=True)
class RefineDetConfig(Config):
    """RefineDet"""

    # Keys of all models with other defaults: those of the network as it was published.
    training_shape: str = key("", "training size in px, a multiple of 64; empty: testing_shape")
    testing_shape: int = key(320, "square input size in px at evaluation", minimum=64, maximum=4096)
    mode: str = key(
        "graph",
        "compiled graph, or PyNative for debugging; sink is an old name of graph",
        choices=("graph", "pynative"),
        means_default=("sink",),
        affects_training=False,
    )
    eval_ignore_threshold: float = key(
        0.01, "score threshold: detections below it are dropped", minimum=0, maximum=1, affects_training=False
    )
    nms_thresh: float = key(
        0.45,
        "IoU threshold of NMS within a class; not used by nms_type soft",
        minimum=0,
        maximum=1,
        affects_training=False,
    )
    max_detections: int = key(500, "maximum detections per image", minimum=1, affects_training=False)
    multi_label: bool = key(
        True, "keep every class of a box above the threshold instead of the best one", affects_training=False
    )

    backbone: str = key("vgg16", "backbone", choices=("vgg16", "resnet101"))
    backbone_shape: tuple[int, ...] = key(
        (),
        "channels; vgg16: of the five stages and fc6; resnet101: of the stem and the four stages; empty: as published",
        minimum=8,
        maximum=8192,
    )
    backbone_layers: tuple[int, ...] = key(
        (), "vgg16: convolutions of the five stages; resnet101: blocks of the four stages; empty: as published",
        minimum=1, maximum=64,
    )  # fmt: skip
    pyramid_channels: int = key(
        256, "channels of the feature maps of the object detection module (ODM)", minimum=1, maximum=8192
    )
    bn_momentum: float = key(
        0.9, "resnet101, batch norm: fraction of the old running statistics kept per step", minimum=0, maximum=1
    )
    bn_eps: float = key(1e-5, "resnet101: batch norm epsilon", above=0, maximum=0.1)
    freeze_layer: str = key("none", "layers frozen in training", choices=("none", "backbone"))
    clip_anchors: bool = key(False, "clip anchors to the input, as luuuyi's port does; the Caffe original does not")
    match_threshold: float = key(
        0.5, "an anchor is positive if its IoU with a box is at least this", minimum=0, maximum=1
    )  # fmt: skip
    neg_pos_ratio: float = key(3.0, "hard negative mining: negatives per positive anchor", minimum=0)
    objectness_threshold: float = key(
        0.01, "anchors with a lower objectness of the ARM are filtered out", minimum=0, maximum=1
    )
    mine_filtered_anchors: bool = key(
        False, "include filtered anchors in hard negative mining, as luuuyi's port does; the Caffe original does not"
    )
    nms_top_k: int = key(1000, "candidates per class that enter NMS", minimum=1, affects_training=False)

    colour_probability: float = key(0.5, "probability of each colour change below", minimum=0, maximum=1)
    brightness: float = key(32.0, "maximum change of brightness, in grey levels", minimum=0, maximum=255)
    contrast: tuple[float, float] = key((0.5, 1.5), "range of the contrast factor", minimum=0, maximum=10)
    saturation_range: tuple[float, float] = key((0.5, 1.5), "range of the saturation factor", minimum=0, maximum=10)
    expand_probability: float = key(
        0.5, "probability of expansion: the image is placed on a larger canvas of padding", minimum=0, maximum=1
    )
    expand_ratio: float = key(4.0, "maximum size of that canvas, relative to the image", minimum=1, maximum=16)
    crop_overlaps: tuple[float, ...] = key(
        (0.1, 0.3, 0.5, 0.7, 0.9), "random crop: minimum IoU with some box, chosen at random",
        minimum=0, maximum=1,
    )  # fmt: skip
    crop_scale: tuple[float, float] = key(
        (0.3, 1.0), "range of the crop side, relative to the image", above=0, maximum=1
    )
    crop_aspect: tuple[float, float] = key((0.5, 2.0), "aspect-ratio range of a crop", above=0, maximum=16)

    SIZE_MULTIPLE: ClassVar[int] = 64
    # On VGG16.
    NARROW: ClassVar[Mapping[str, Any]] = {
        "backbone_shape": (8, 8, 8, 8, 8, 16),
        "backbone_layers": (1, 1, 1, 1, 1),
        "pyramid_channels": 8,
        "testing_shape": 64,
    }
    UNUSED: ClassVar[tuple[str, ...]] = (
        "jitter",
        "jitter_scale",
        "saturation",
        "value",
        "label_smooth",
        "label_smooth_factor",
        "multi_label_thresh",
    )

    def __post_init__(self) -> None:
        """Sets training_shape from testing_shape if it is empty."""
        if not self.training_shape:
            object.__setattr__(self, "training_shape", str(self.testing_shape))
            if "testing_shape" in self.places:
                places = {**self.places, "training_shape": self.places["testing_shape"]}
                object.__setattr__(self, "places", places)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        count, names, layers = _STAGES[self.backbone]
        if len(self.backbone_shape) not in (0, count):
            yield "backbone_shape", f"has {len(self.backbone_shape)} values; {self.backbone} takes {count}: {names}"
        if len(self.backbone_layers) not in (0, layers):
            yield "backbone_layers", f"has {len(self.backbone_layers)} values; {self.backbone} takes {layers}"
        for name in ("contrast", "saturation_range", "crop_scale", "crop_aspect"):
            low, high = getattr(self, name)
            if low > high:
                yield name, "must be (minimum, maximum)"


MODEL_CONFIG = RefineDetConfig
