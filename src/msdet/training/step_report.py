"""The result of a training step: a single vector, since each read makes the host wait for the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mindspore import Tensor


@dataclass(frozen=True)
class StepReport:
    """The result of one training step.

    Attributes:
        losses: unscaled and unweighted; means over all ranks.
        own_losses: the same of this rank.
        gradient_norm: L2 norm before clipping, of the accumulation window so far; if the gradient of this step is not
            finite, its own norm.
        is_finite: False if loss, gradient or batch-norm statistics are not finite on some rank: the step was skipped.
        scale: the loss scale that was used.
        is_stop_requested: whether some rank received a stop request.
    """

    losses: tuple[float, ...]
    own_losses: tuple[float, ...]
    gradient_norm: float
    is_finite: bool
    scale: float
    is_stop_requested: bool

    @classmethod
    def parse(cls, vector: Sequence[float]) -> StepReport:
        """Parses the vector that `TrainStep` returns."""
        *ranks, norm, is_finite, scale = vector
        half = len(ranks) // 2
        *losses, _, stop = ranks[:half]
        *own_losses, _, _ = ranks[half:]
        return cls(tuple(losses), tuple(own_losses), norm, bool(is_finite), scale, stop > 0)


class LaunchedStep:
    """A step that was launched on the device and may still be running.

    Args:
        vector: the output of `TrainStep`.
        sources: tensors that are being copied to the device; they are kept alive until the step is done.
    """

    def __init__(self, vector: Tensor, sources: Sequence[Tensor]) -> None:
        self._vector = vector
        self._sources = sources

    def read(self) -> StepReport:
        """Waits for the step and returns its report."""
        values = self._vector.asnumpy().tolist()
        self._sources = ()
        return StepReport.parse(values)
