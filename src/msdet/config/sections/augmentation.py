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
        True, "crop, flip and colour changes of training images; False: only the resize, and mosaics where they are on"
    )
    flip_probability: float = key(0.5, "probability of a left-right flip", minimum=0, maximum=1)
    jitter: float = key(
        0.3, "aspect-ratio change of the random crop; 0 with scale 1..1 is none", minimum=0, maximum=0.99
    )
    jitter_scale: tuple[float, float] = key((0.25, 2.0), "range of the random zoom; 1,1 is none", above=0, maximum=16)
    hue: float = key(0.1, "largest change of hue, in turns of the colour circle", minimum=0, maximum=0.5)
    saturation: float = key(1.5, "largest factor or divisor of the saturation; 1 is none", minimum=1, maximum=10)
    value: float = key(1.5, "largest factor or divisor of the brightness; 1 is none", minimum=1, maximum=10)
