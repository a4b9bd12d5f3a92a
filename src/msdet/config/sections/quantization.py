"""Keys of quantization-aware training, for the models that `quantize` can take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from msdet.config.key import EVERYWHERE, key

if TYPE_CHECKING:
    from msdet.config import Config as _Base
else:
    _Base = object


@dataclass(frozen=True)
class QuantTrainingKeys:
    """Quantization-aware training in detail"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train",)
    DETAIL_IN: ClassVar[tuple[str, ...]] = EVERYWHERE

    quant_delay: tuple[int, int] = key((0, 0), "steps before weights, before activations are rounded", minimum=0)
    freeze_bn_step: int = key(
        10_000_000, "step from which batch norm uses its running statistics; beyond the last: never", minimum=0
    )
    observer_decay: float = key(
        0.999, "share of an activation's old range that is kept at each step", minimum=0, maximum=0.999999
    )
    calibration_batches: int = key(8, "batches whose ranges the training starts with", minimum=1)


@dataclass(frozen=True)
class QuantKeys(QuantTrainingKeys, _Base):
    """Quantization-aware training"""

    DETAIL_IN: ClassVar[tuple[str, ...]] = EVERYWHERE

    quantization_aware: bool = key(
        False, "train with the rounding errors of the int8 network, from the float checkpoint in pretrained"
    )
    quant_bits: tuple[int, int] = key((8, 8), "bits of weights, of activations", minimum=2, maximum=8)
    per_channel: tuple[bool, bool] = key(
        (True, False), "a scale for each output channel: of weights, of activations (False only)"
    )
    symmetric: tuple[bool, bool] = key((True, False), "the range reaches as far below 0 as above: weights, activations")

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.per_channel[1]:
            yield "per_channel", "asks for a scale for each channel of the activations; no runtime multiplies such"
        if self.quantization_aware and self.amp_level not in ("auto", "O0"):
            yield "amp_level", f"is {self.amp_level}; quantization_aware training rounds in float32: set amp_level O0"


# What the fake-quantized network depends on; a checkpoint's card keeps it.
QUANT_NETWORK_KEYS = ("quantization_aware", "quant_bits", "per_channel", "symmetric")


def quantization_section(values: dict[str, Any]) -> dict[str, Any]:
    """What the card of a quantized network says in addition, from all values of a configuration; {} for a float one."""
    if not values.get("quantization_aware"):
        return {}
    return {"quantization": {name: values[name] for name in QUANT_NETWORK_KEYS}}
