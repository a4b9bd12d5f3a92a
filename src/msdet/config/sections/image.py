"""Keys of resizing and normalising images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from msdet.config.key import TRAINING_COMMANDS, key

_SIZES = tuple((size, size) for size in range(320, 609, 32))


@dataclass(frozen=True)
class ImageKeys:
    """Network input"""

    ADVANCED_IN: ClassVar[tuple[str, ...]] = ("train",)

    testing_shape: int = key(
        416, "square input size in px at evaluation", minimum=32, maximum=4096, means_default=("None", "")
    )
    resize: str = key("stretch", "resize mode", choices=("stretch", "letterbox", "letterbox_top_left"))
    interpolation: str = key(
        "linear",
        "interpolation of the resize at evaluation; old_zoo: cubic when enlarging, nearest when shrinking",
        choices=("linear", "nearest", "cubic", "area", "old_zoo"),
    )
    pad_value: int = key(128, "padding value, 0..255", minimum=0, maximum=255)
    mean: tuple[float, float, float] = key((0.485, 0.456, 0.406), "RGB mean, in 0..1", minimum=0, maximum=1)
    std: tuple[float, float, float] = key((0.229, 0.224, 0.225), "RGB standard deviation, in 0..1", above=0, maximum=1)


@dataclass(frozen=True)
class TrainingImageKeys:
    """Network input in training"""

    COMMANDS: ClassVar[tuple[str, ...]] = TRAINING_COMMANDS

    training_shape: str = key(
        "", "fixed training size in px, e.g. 416; empty: multi-scale training with the sizes of multi_scale"
    )
    multi_scale: tuple[tuple[int, int], ...] = key(
        _SIZES, "training sizes in px, square or (height, width)", minimum=32, maximum=4096, square=True
    )
    resize_rate: int = key(
        1, "batches between changes of the training size", minimum=1, means_default=("None", "0", "")
    )
    training_interpolation: str = key(
        "random",
        "interpolation of the resize in training; random: nearest, linear or cubic, chosen per image",
        choices=("random", "linear", "nearest", "cubic", "area"),
    )
