"""Normalisation followed by zero padding, as in the published EfficientDets."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import ops

from msdet.layers.box_matching import constant_arange
from msdet.layers.preprocess import Normalisation


class PadAfterPreprocess(Normalisation):
    """`Preprocess` that then sets the padding at the right and bottom of each image to 0.

    Args:
        mean, std: one value per channel, R, G, B, on the scale 0..1.
    """

    uses_valid_sizes = True

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(mean, std)

    def construct(self, images: ms.Tensor, valid_sizes: ms.Tensor) -> ms.Tensor:
        """`valid_sizes`, int32 (N, 2), is the height and width of each image, which is at the top left of its input."""
        pixels = ops.cast(ops.transpose(images, (0, 3, 1, 2)), ms.float32) * self.scale + self.shift
        _, _, height, width = pixels.shape
        rows = ops.cast(ops.reshape(constant_arange(height), (1, 1, -1, 1)) < _column(valid_sizes, 0), ms.float32)
        columns = ops.cast(ops.reshape(constant_arange(width), (1, 1, 1, -1)) < _column(valid_sizes, 1), ms.float32)
        return pixels * (rows * columns)


def _column(valid_sizes: ms.Tensor, number: int) -> ms.Tensor:
    return ops.reshape(valid_sizes[:, number], (-1, 1, 1, 1))
