"""Loss and decoder of the classifiers."""

from __future__ import annotations

from typing import ClassVar

import mindspore as ms
from mindspore import nn, ops


class SmoothedCrossEntropy(nn.Cell):
    """Cross-entropy with label smoothing (Szegedy et al., 2016), averaged over the batch.

    The target is 1 - smoothing for the true class and smoothing / (C - 1) for each of the others.

    Args:
        num_classes: C, at least 2.
        smoothing: 0 for plain cross-entropy.
    """

    loss_names: ClassVar[tuple[str, ...]] = ("cross_entropy",)

    def __init__(self, num_classes: int, smoothing: float = 0.0) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.off = smoothing / (num_classes - 1)
        self.on = 1.0 - smoothing
        self.log_softmax = ops.LogSoftmax(-1)

    def construct(self, logits: ms.Tensor, labels: ms.Tensor) -> tuple[ms.Tensor]:
        """Logits (N, C), labels (N,) int32 in 0..C-1 -> (loss,), a float32 scalar."""
        log_p = self.log_softmax(ops.cast(logits, ms.float32))
        is_true = ops.cast(ops.equal(ops.arange(self.num_classes), ops.expand_dims(labels, 1)), ms.float32)
        targets = self.off + (self.on - self.off) * is_true
        return (-ops.reduce_mean(ops.reduce_sum(targets * log_p, 1)),)


class Probabilities(nn.Cell):
    """Logits (N, C) -> probabilities (N, C) float32; the image size, an argument of all decoders, is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.softmax = nn.Softmax(-1)

    def construct(self, logits: ms.Tensor, image_size: tuple[int, int]) -> ms.Tensor:
        return self.softmax(ops.cast(logits, ms.float32))
