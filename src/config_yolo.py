"""Keys that YOLOv3 and YOLOv4 share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from src.config import Config, key
from src.config_darknet import DarkNetKeys
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
class YoloConfig(DarkNetKeys, QuantKeys, Config):
    """YOLO"""

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
        if len(self.anchors) != 9:
            yield "anchors", f"has {len(self.anchors)} pairs; it takes 9, three an output"
