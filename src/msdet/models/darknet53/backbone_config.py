"""Configuration keys of the backbones DarkNet53 and CSPDarkNet53, used by the classifiers and the YOLOs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from msdet.config.key import ALL_COMMANDS, key

if TYPE_CHECKING:
    from msdet.config import Config as _Base
else:
    _Base = object


@dataclass(frozen=True)
class DarkNetKeys(_Base):
    """DarkNet"""

    ADVANCED_IN: ClassVar[tuple[str, ...]] = ALL_COMMANDS
    NARROW: ClassVar[Mapping[str, Any]] = {
        "backbone_shape": (4, 8, 8, 16, 16, 16),
        "backbone_layers": (1, 1, 1, 1, 1),
        "testing_shape": 64,
    }

    backbone_shape: tuple[int, ...] = key(
        (32, 64, 128, 256, 512, 1024), "channels of the stem and the five stages", minimum=1, maximum=8192
    )
    backbone_layers: tuple[int, ...] = key((1, 2, 8, 8, 4), "residual blocks of the five stages", minimum=1, maximum=64)
    padding: str = key(
        "symmetric",
        "padding of 3x3 convolutions: symmetric as in darknet, or MindSpore's `same` as in the old zoo",
        choices=("symmetric", "same"),
    )
    bn_momentum: float = key(
        0.9, "batch norm: fraction of the old running statistics kept per step", minimum=0, maximum=1
    )
    bn_eps: float = key(1e-5, "batch norm epsilon", above=0, maximum=0.1)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if len(self.backbone_shape) != 6:
            yield "backbone_shape", f"has {len(self.backbone_shape)} values; it takes 6: the stem and five stages"
        if len(self.backbone_layers) != 5:
            yield "backbone_layers", f"has {len(self.backbone_layers)} values; it takes 5, one per stage"
        if any(channels % 2 for channels in self.backbone_shape):
            yield "backbone_shape", "has an odd value; residual blocks halve the channels, so they are even"
