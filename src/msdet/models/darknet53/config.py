"""Configuration keys of the classifiers DarkNet53 and CSPDarkNet53."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from msdet.config import Config, key
from msdet.config.sections.quantization import QuantKeys
from msdet.models.darknet53.backbone_config import DarkNetKeys


@dataclass(frozen=True)
class DarkNet53Config(DarkNetKeys, QuantKeys, Config):
    """DarkNet53"""

    # Common keys with other defaults or choices.
    dataset: str = key(
        "imagefolder",
        "dataset format: imagefolder (train/ and val/ with one folder per class; old names imagenet2012 and imagenet), "
        "or MindRecord files created from it",
        choices=("imagefolder", "imagenet2012", "imagenet", "mindrecord"),
        affects_training=False,
    )
    group_size: int = key(1, "number of processes; the value of msrun takes precedence", minimum=1, means_default=("",))
    training_shape: str = key("256", "training size in px")
    testing_shape: int = key(256, "square input size in px at evaluation, after the centre crop", minimum=32,
                             maximum=4096)  # fmt: skip
    resize: str = key(
        "shortest_side",
        "resize before the centre crop at evaluation: the shortest side, or both sides, to eval_resize",
        choices=("shortest_side", "stretch"),
    )
    eval_batch_size: int = key(64, "evaluation batch size per device", minimum=1, maximum=65536, affects_training=False)

    eval_resize: int = key(
        0, "size in px of that resize; 0: 8/7 of testing_shape, e.g. 292 for 256", minimum=0, maximum=4096
    )
    crop_area: tuple[float, float] = key(
        (0.08, 1.0), "area range of the random crop, as a fraction of the image", above=0, maximum=1
    )
    crop_aspect: tuple[float, float] = key((0.75, 1.333), "aspect-ratio range of the random crop", above=0, maximum=16)
    colour_jitter: tuple[float, float, float] = key(
        (0.4, 0.4, 0.4), "jitter x of brightness, contrast and saturation: factors from 1 - x to 1 + x", minimum=0,
        maximum=1,
    )  # fmt: skip
    activation: str = key(
        "leaky", "activation function: leaky as in darknet, relu as in the old zoo", choices=("leaky", "relu")
    )
    weight_init: str = key(
        "xavier",
        "weight initialisation: Xavier uniform, or uniform within +-1 / sqrt(fan in)",
        choices=("xavier", "fan_in"),
    )

    UNUSED: ClassVar[tuple[str, ...]] = (
        "training_interpolation", "jitter", "jitter_scale", "hue", "saturation", "value",
    )  # fmt: skip

    @property
    def resize_px(self) -> int:
        """Size in px to which evaluation resizes the shortest side, or both sides."""
        return self.eval_resize or self.testing_shape * 8 // 7

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.resize_px < self.testing_shape:
            yield (
                "eval_resize",
                f"is {self.eval_resize}, less than testing_shape {self.testing_shape}, which is cropped from it",
            )
        if not self.training_shape:
            yield "training_shape", "is empty; a classifier is trained at one size"
        for name in ("crop_area", "crop_aspect"):
            if getattr(self, name)[0] > getattr(self, name)[1]:
                yield name, "must be (minimum, maximum)"
        if self.num_classes == 1 or len(self.class_names) == 1:
            yield "num_classes", "is 1; a classifier needs at least two classes"


@dataclass(frozen=True)
class CspDarkNet53Config(DarkNet53Config):
    """CSPDarkNet53"""

    training_shape: str = key("224", "training size in px")
    testing_shape: int = key(224, "square input size in px at evaluation, after the centre crop", minimum=32,
                             maximum=4096)  # fmt: skip
    resize: str = key(
        "stretch",
        "resize before the centre crop at evaluation: the shortest side, or both sides, to eval_resize",
        choices=("shortest_side", "stretch"),
    )
    activation: str = key(
        "mish",
        "activation function; mish_tanh is mish computed as in the old zoo (differs by 1e-4 on CPU)",
        choices=("mish", "mish_tanh"),
    )
    weight_init: str = key(
        "fan_in",
        "weight initialisation: Xavier uniform, or uniform within +-1 / sqrt(fan in)",
        choices=("xavier", "fan_in"),
    )


MODEL_CONFIG = {"darknet53": DarkNet53Config, "cspdarknet53": CspDarkNet53Config}
