"""Keys of the initial weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from msdet.config.key import key


@dataclass(frozen=True)
class WeightsKeys:
    """Weights"""

    pretrained: str = key(
        "",
        "checkpoint of the whole network: to fine-tune, evaluate, export or predict with",
        path=True,
        affects_training=False,
    )


@dataclass(frozen=True)
class StartKeys:
    """Start of training"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train",)

    pretrained_backbone: str = key("", "checkpoint of the backbone only", path=True, affects_training=False)
    pretrained_epochs: int = key(
        0, "epochs that pretrained was trained for: epochs and learning rate continue from there", minimum=0
    )
    filter_weight: bool = key(False, "skip the weights of the last layers (for other classes than the checkpoint has)")
    resume: str = key(
        "",
        "resume training: auto (the newest checkpoint under ckpt_path), or a checkpoint file",
        path=True,
        affects_training=False,
    )
    resume_force: bool = key(False, "resume even if keys that affect the result differ", affects_training=False)
