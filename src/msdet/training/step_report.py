"""What a training step tells the host: one vector, since each reading makes the host wait for the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mindspore import Tensor


@dataclass(frozen=True)
class StepNumbers:
    """What a step reports.

    Attributes:
        losses: unscaled and unweighted; the mean over all ranks.
        own_losses: of this rank.
        gradient_norm: L2 before clipping, of the window so far; of this step alone, and not finite, where its gradient
            is not.
        is_finite: False if loss, gradient or batch-norm statistics were not, on any rank: the step changed nothing.
        scale: the loss scale that was used.
        is_stop_asked: some rank was asked to stop.
    """

    losses: tuple[float, ...]
    own_losses: tuple[float, ...]
    gradient_norm: float
    is_finite: bool
    scale: float
    is_stop_asked: bool

    @classmethod
    def of(cls, report: Sequence[float]) -> StepNumbers:
        """From the vector that `TrainStep` gives."""
        *ranks, norm, is_finite, scale = report
        half = len(ranks) // 2
        *losses, _, stop = ranks[:half]
        *own_losses, _, _ = ranks[half:]
        return cls(tuple(losses), tuple(own_losses), norm, bool(is_finite), scale, stop > 0)


class Launched:
    """A step that was given to the device and may still be running there.

    Args:
        report: what the step gives.
        sources: what is being copied to the device, which has to stay until the report is there.
    """

    def __init__(self, report: Tensor, sources: Sequence[Tensor]) -> None:
        self._report = report
        self._sources = sources

    def read(self) -> StepNumbers:
        """Waits for the step."""
        report = self._report.asnumpy().tolist()
        self._sources = ()
        return StepNumbers.of(report)
