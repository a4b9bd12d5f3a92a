"""Normalisation and, after it, padding with 0, as the published EfficientDets do."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import ops

from msdet.layers.box_matching import count_up
from msdet.layers.preprocess import Normalisation


class PadAfterPreprocess(Normalisation):
    """As `Preprocess`; what lies to the right of an image and below it becomes 0, whatever it was padded with.

    Args:
        mean, std: one value a channel, R, G, B, on the scale 0..1.
    """

    uses_valid_sizes = True

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(mean, std)

    def construct(self, images: ms.Tensor, valid_sizes: ms.Tensor) -> ms.Tensor:
        """Normalises; `valid_sizes` int32 (N, 2) tells height and width that each image covers from the top left."""
        planes = ops.cast(ops.transpose(images, (0, 3, 1, 2)), ms.float32) * self.scale + self.shift
        _, _, height, width = planes.shape
        rows = ops.cast(ops.reshape(count_up(height), (1, 1, -1, 1)) < _column(valid_sizes, 0), ms.float32)
        columns = ops.cast(ops.reshape(count_up(width), (1, 1, 1, -1)) < _column(valid_sizes, 1), ms.float32)
        return planes * (rows * columns)


def _column(valid_sizes: ms.Tensor, number: int) -> ms.Tensor:
    return ops.reshape(valid_sizes[:, number], (-1, 1, 1, 1))
