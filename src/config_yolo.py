"""Keys that YOLOv3 and YOLOv4 share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from src.config import Config, key
from src.config_quant import QuantKeys

# Old name -> key. A name that is also a key of its own (`per_batch_size` in eval) has the old meaning on the command
# line of that script only; in a YAML file, which serves training too, it stays the key.
TRAIN_ALIASES = {"batch_size": "per_batch_size"}
EVAL_ALIASES = {
    "per_batch_size": "eval_batch_size",
    "batch_size": "eval_batch_size",
    "ignore_threshold": "eval_ignore_threshold",
    "ann_file": "val_ann_file",
}


@dataclass(frozen=True)
class YoloConfig(QuantKeys, Config):
    """YOLO"""

    backbone_shape: tuple[int, ...] = key(
        (32, 64, 128, 256, 512, 1024), "channels of the stem and of the five stages", minimum=1, maximum=8192
    )
    backbone_layers: tuple[int, ...] = key((1, 2, 8, 8, 4), "residual blocks of the five stages", minimum=1, maximum=64)
    padding: str = key(
        "symmetric",
        "of 3x3 convolutions: as darknet, or MindSpore's same as the old zoo",
        choices=("symmetric", "same"),
    )
    bn_momentum: float = key(0.9, "share of the old running statistics kept at each step", minimum=0, maximum=1)
    bn_eps: float = key(1e-5, "added to the variance in batch norm", above=0, maximum=0.1)
    anchors: tuple[tuple[float, float], ...] = key(
        (), "nine (width, height) in px, smallest first", above=0, maximum=4096
    )
    objectness_prior: float = key(
        0.01,
        "objectness that an untrained network starts with; 0.5 is the random start of the published trainings",
        above=0,
        maximum=0.5,
    )
    ignore_threshold: float = key(
        0.7, "a prediction that overlaps a ground truth of its scale more (IoU) is no negative", minimum=0, maximum=1
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if len(self.backbone_shape) != 6:
            yield "backbone_shape", f"has {len(self.backbone_shape)} values; it takes 6: the stem and five stages"
        if len(self.backbone_layers) != 5:
            yield "backbone_layers", f"has {len(self.backbone_layers)} values; it takes 5, one a stage"
        if len(self.anchors) != 9:
            yield "anchors", f"has {len(self.anchors)} pairs; it takes 9, three an output"
        if any(channels % 2 for channels in self.backbone_shape):
            yield "backbone_shape", "has an odd value; residual blocks halve the channels, so they are even"
