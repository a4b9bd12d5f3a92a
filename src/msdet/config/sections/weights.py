"""Keys of the weights that a command begins with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from msdet.config.key import key


@dataclass(frozen=True)
class WeightsKeys:
    """Weights"""

    pretrained: str = key(
        "", "weights of the whole network: to start training from, or to evaluate", path=True, affects_training=False
    )


@dataclass(frozen=True)
class StartKeys:
    """Start of training"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train",)

    pretrained_backbone: str = key("", "weights of the backbone alone", path=True, affects_training=False)
    filter_weight: bool = key(False, "leave out the weights of the last layers (other classes than the checkpoint's)")
    resume: str = key(
        "",
        "continue a run: auto (the newest state under ckpt_path), or a checkpoint",
        path=True,
        affects_training=False,
    )
    resume_force: bool = key(False, "continue although keys that change the result differ", affects_training=False)
