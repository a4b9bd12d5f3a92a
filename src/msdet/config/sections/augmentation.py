"""Keys of the augmentation of training images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from msdet.config.key import TRAINING_COMMANDS, key


@dataclass(frozen=True)
class AugmentKeys:
    """Augmentation"""

    COMMANDS: ClassVar[tuple[str, ...]] = TRAINING_COMMANDS

    augment: bool = key(
        True,
        "random crop, flip and colour changes of training images; False: only resize (and mosaic, where it is enabled)",
    )
    flip_probability: float = key(0.5, "probability of a horizontal flip", minimum=0, maximum=1)
    jitter: float = key(
        0.3, "aspect-ratio jitter of the random crop; 0 with jitter_scale 1,1: no crop", minimum=0, maximum=0.99
    )
    jitter_scale: tuple[float, float] = key(
        (0.25, 2.0), "range of the random scale factor; 1,1: no scaling", above=0, maximum=16
    )
    hue: float = key(0.1, "maximum hue shift, as a fraction of the colour circle", minimum=0, maximum=0.5)
    saturation: float = key(1.5, "maximum factor (or divisor) of the saturation; 1: unchanged", minimum=1, maximum=10)
    value: float = key(1.5, "maximum factor (or divisor) of the brightness; 1: unchanged", minimum=1, maximum=10)
