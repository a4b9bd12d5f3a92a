"""Keys of quantization-aware training, for the models that support it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from msdet.config.key import ALL_COMMANDS, key

if TYPE_CHECKING:
    from msdet.config import Config as _Base
else:
    _Base = object


@dataclass(frozen=True)
class QuantTrainingKeys:
    """Quantization-aware training in detail"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train",)
    ADVANCED_IN: ClassVar[tuple[str, ...]] = ALL_COMMANDS

    quant_delay: tuple[int, int] = key(
        (0, 0), "training steps before weights, activations are fake-quantized", minimum=0
    )
    freeze_bn_step: int = key(
        10_000_000,
        "step from which batch norm is frozen to its running statistics; past the last step: never",
        minimum=0,
    )
    observer_decay: float = key(
        0.999, "decay per step of the moving average of activation ranges", minimum=0, maximum=0.999999
    )
    calibration_batches: int = key(8, "batches that initialise the activation ranges", minimum=1)


@dataclass(frozen=True)
class QuantKeys(QuantTrainingKeys, _Base):
    """Quantization-aware training"""

    ADVANCED_IN: ClassVar[tuple[str, ...]] = ALL_COMMANDS

    quantization_aware: bool = key(
        False, "train with fake quantization for int8, starting from the float checkpoint in pretrained"
    )
    quant_bits: tuple[int, int] = key((8, 8), "bit widths of weights, activations", minimum=2, maximum=8)
    per_channel: tuple[bool, bool] = key((True, False), "per-channel scales of weights, activations (False only)")
    symmetric: tuple[bool, bool] = key((True, False), "symmetric ranges of weights, activations")

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.per_channel[1]:
            yield "per_channel", "is True for activations; no runtime supports per-channel scales of activations"
        if self.quantization_aware and self.amp_level not in ("auto", "O0"):
            yield "amp_level", f"is {self.amp_level}; quantization-aware training runs in float32: set amp_level O0"


# Keys that define the fake-quantized network; the card of a checkpoint stores them.
QUANT_NETWORK_KEYS = ("quantization_aware", "quant_bits", "per_channel", "symmetric")


def quantization_section(values: dict[str, Any]) -> dict[str, Any]:
    """The section that the card of a quantized network has in addition; {} for a float one.

    Args:
        values: of the whole configuration.
    """
    if not values.get("quantization_aware"):
        return {}
    return {"quantization": {name: values[name] for name in QUANT_NETWORK_KEYS}}
