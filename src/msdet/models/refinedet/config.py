"""Keys of RefineDet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from msdet.config import Config, key

# Values that backbone_shape and backbone_layers take.
_STAGES = {"vgg16": (6, "five stages and fc6", 5), "resnet101": (5, "the stem and four stages", 4)}


@dataclass(frozen=True)
class RefineDetConfig(Config):
    """RefineDet"""

    # Keys of all models with other defaults: those of the network as it was published.
    training_shape: str = key("", "training size in px, a multiple of 64; empty: that of testing_shape")
    testing_shape: int = key(320, "square input size in px at evaluation", minimum=64, maximum=4096)
    mode: str = key(
        "graph",
        "compiled graph, or PyNative to debug; sink, the old name of the first, is understood",
        choices=("graph", "pynative"),
        means_default=("sink",),
        affects_training=False,
    )
    eval_ignore_threshold: float = key(
        0.01, "detections of a lower score are dropped", minimum=0, maximum=1, affects_training=False
    )
    nms_thresh: float = key(
        0.45,
        "boxes of one class that overlap more (IoU) are suppressed; nms_type soft has no use for it",
        minimum=0,
        maximum=1,
        affects_training=False,
    )
    max_detections: int = key(500, "detections kept an image", minimum=1, affects_training=False)
    multi_label: bool = key(
        True, "a box may have every class above the threshold, not only its best", affects_training=False
    )

    backbone: str = key("vgg16", "the network below", choices=("vgg16", "resnet101"))
    backbone_shape: tuple[int, ...] = key(
        (),
        "vgg16: channels of the five stages and of fc6; resnet101: of the stem, and widths of the four stages; empty: "
        "as published",
        minimum=8,
        maximum=8192,
    )
    backbone_layers: tuple[int, ...] = key(
        (), "vgg16: convolutions of the five stages; resnet101: blocks of the four stages; empty: as published",
        minimum=1, maximum=64,
    )  # fmt: skip
    pyramid_channels: int = key(256, "channels of the maps on which objects are found", minimum=1, maximum=8192)
    bn_momentum: float = key(
        0.9, "resnet101: share of the old running statistics kept at each step", minimum=0, maximum=1
    )
    bn_eps: float = key(1e-5, "resnet101: added to the variance in batch norm", above=0, maximum=0.1)
    freeze_layer: str = key("none", "weights that training leaves as they are", choices=("none", "backbone"))
    clip_anchors: bool = key(
        False, "cut the sides of anchors to the input's, as luuuyi's port does; Caffe's original does not"
    )
    match_threshold: float = key(
        0.5, "an anchor that overlaps a box as much (IoU) learns it", minimum=0, maximum=1
    )  # fmt: skip
    neg_pos_ratio: float = key(3.0, "hardest anchors without a box that learn so, for each with one", minimum=0)
    objectness_threshold: float = key(
        0.01, "anchors that hold an object with a lower probability are filtered out", minimum=0, maximum=1
    )
    mine_filtered_anchors: bool = key(
        False, "learn from the hardest of the filtered anchors too, as luuuyi's port does; Caffe's original does not"
    )
    nms_top_k: int = key(
        1000, "best candidates of a class that enter the suppression", minimum=1, affects_training=False
    )

    colour_probability: float = key(0.5, "probability of each change of colours below", minimum=0, maximum=1)
    brightness: float = key(32.0, "largest change of brightness, in grey levels", minimum=0, maximum=255)
    contrast: tuple[float, float] = key((0.5, 1.5), "range of the factor of contrast", minimum=0, maximum=10)
    saturation_range: tuple[float, float] = key((0.5, 1.5), "range of the factor of saturation", minimum=0, maximum=10)
    expand_probability: float = key(0.5, "probability that the image is put on a larger grey one", minimum=0, maximum=1)
    expand_ratio: float = key(4.0, "largest side of that, in sides of the image", minimum=1, maximum=16)
    crop_overlaps: tuple[float, ...] = key(
        (0.1, 0.3, 0.5, 0.7, 0.9), "least IoU of a crop with some box, one at random; also any crop, and none",
        minimum=0, maximum=1,
    )  # fmt: skip
    crop_scale: tuple[float, float] = key((0.3, 1.0), "range of the side of a crop", above=0, maximum=1)
    crop_aspect: tuple[float, float] = key((0.5, 2.0), "range of the aspect ratio of a crop", above=0, maximum=16)

    class_num: int = key(0, "the seed's count of outputs: num_classes and the background; 0: not said", minimum=0)
    image_shape: tuple[int, ...] = key(
        (), "the seed's height and width of the input in px: training_shape and testing_shape", minimum=64, maximum=4096
    )
    pre_trained_epoch_size: int = key(
        0, "epochs that the weights in pretrained were trained for: the schedule goes on from there", minimum=0
    )

    SIZE_MULTIPLE: ClassVar[int] = 64
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
        """Lets the seed's counts of outputs and of pixels, and one size for two, stand for the keys that they mean."""
        if self.class_num and not self.num_classes:
            self._set("num_classes", self.class_num - 1, "class_num")
        for name, value in zip(("testing_shape", "training_shape"), self.image_shape[:1] * 2, strict=False):
            # A flag wins over what a file says.
            if self._is_typed("image_shape") > self._is_typed(name) or name not in self.places:
                self._set(name, type(getattr(self, name))(value), "image_shape")
        if not self.training_shape:
            self._set("training_shape", str(self.testing_shape), "testing_shape")

    def _is_typed(self, name: str) -> bool:
        return self.places.get(name, "").startswith("--")

    def _set(self, name: str, value: object, said_by: str) -> None:
        object.__setattr__(self, name, value)
        if said_by in self.places:
            object.__setattr__(self, "places", {**self.places, name: self.places[said_by]})

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        count, names, layers = _STAGES[self.backbone]
        if len(self.backbone_shape) not in (0, count):
            yield "backbone_shape", f"has {len(self.backbone_shape)} values; {self.backbone} takes {count}: {names}"
        if len(self.backbone_layers) not in (0, layers):
            yield "backbone_layers", f"has {len(self.backbone_layers)} values; {self.backbone} takes {layers}"
        if self.class_num == 1:
            yield "class_num", "is 1, the background alone; it counts the classes and one more"
        elif self.class_num and self.class_num != self.num_classes + 1:
            yield (
                "class_num",
                f"is {self.class_num}, with the background; num_classes, without it, is {self.num_classes}",
            )
        if self.image_shape and len(set(self.image_shape)) > 1:
            yield "image_shape", f"is {list(self.image_shape)}; inputs are square"
        elif self.image_shape and self.image_shape[0] != self.testing_shape:
            yield "image_shape", f"is {self.image_shape[0]} px, {self.where('testing_shape')} {self.testing_shape}"
        for name in ("contrast", "saturation_range", "crop_scale", "crop_aspect"):
            low, high = getattr(self, name)
            if low > high:
                yield name, "takes the smaller number first"


MODEL_CONFIG = RefineDetConfig
