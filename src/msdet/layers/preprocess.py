"""Normalisation of images in the graph: batches stay uint8 until then, and an export can include it."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import nn, ops


class Normalisation(nn.Cell):
    """Base of the cells that turn uint8 RGB images (N, H, W, 3) into the network's input (N, 3, H, W).

    Attributes:
        uses_valid_sizes: whether the result depends on the second input; an exported file has it only then.

    Args:
        mean, std: one value per channel, R, G, B, on the scale 0..1.
    """

    uses_valid_sizes = False

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.scale = ms.Tensor((1 / (255 * np.asarray(std, np.float64))).astype(np.float32).reshape(1, 3, 1, 1))
        self.shift = ms.Tensor((-np.asarray(mean) / np.asarray(std)).astype(np.float32).reshape(1, 3, 1, 1))


class Preprocess(Normalisation):
    """uint8 RGB images (N, H, W, 3) -> float32 (N, 3, H, W): x / 255, minus mean, divided by std.

    Args:
        mean, std: see `Normalisation`.
    """

    def construct(self, images: ms.Tensor, valid_sizes: ms.Tensor | None = None) -> ms.Tensor:
        """`valid_sizes`, int32 (N, 2), is the height and width of each image within its input; it is not used here."""
        pixels = ops.cast(ops.transpose(images, (0, 3, 1, 2)), ms.float32)
        return pixels * self.scale + self.shift
