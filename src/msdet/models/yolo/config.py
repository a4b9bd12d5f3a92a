"""Configuration keys shared by YOLOv3 and YOLOv4."""

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
        (), "nine anchors (width, height) in px, smallest first", above=0, maximum=4096
    )
    objectness_prior: float = key(
        0.01,
        "initial objectness of an untrained network; 0.5 as in the published trainings",
        above=0,
        maximum=0.5,
    )
    ignore_threshold: float = key(
        0.7,
        "a prediction with a higher IoU with some ground truth of its scale is not a negative (it is ignored)",
        minimum=0,
        maximum=1,
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if len(self.anchors) != 9:
            yield "anchors", f"has {len(self.anchors)} pairs; it takes 9, three per output"
