"""Keys that YOLOv3 and YOLOv4 share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from msdet.config import Config, key
from msdet.config.sections.quantization import QuantKeys
from msdet.models.darknet53.backbone_config import DarkNetKeys


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
