"""The scale jitter of EfficientDet, with the image at the top left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msdet.data.transforms.augment import Window, clip_to_canvas
from msdet.data.transforms.resize import Geometry, size_of


@dataclass(frozen=True)
class ScaleJitter:
    """Placement at a random scale that keeps the aspect ratio and pads at the right and bottom (google/automl).

    The image is resized to fit s times the canvas, s from U(scale). A smaller image is placed at the top left; a larger
    one is cropped to the canvas at a random position. Only the visible part is resized, from whole source pixels; boxes
    are transformed by the geometry after rounding.

    Attributes:
        scale: range of the size relative to the largest that fits.
        interpolation: of the resize.
        fill: padding value.
        min_side: a box must keep more than this many canvas pixels in width and in height, or it is dropped.
    """

    scale: tuple[float, float] = (0.1, 2.0)
    interpolation: str = "linear"
    fill: int = 128
    min_side: float = 0.0

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, canvas: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, Geometry]:
        size = size_of(canvas)
        window = self.sample_window(size_of(image), size, rng)
        moved, kept = clip_to_canvas(window.geometry().forward(boxes), size, self.min_side)
        window.paste(image, canvas, self.fill, self.interpolation)
        return moved[kept], labels[kept], window.geometry()

    def sample_window(self, image_size: tuple[int, int], size: tuple[int, int], rng: np.random.Generator) -> Window:
        """Samples a placement of an image of `image_size` (H, W) on a canvas of `size` (h, w)."""
        zoom = rng.uniform(*self.scale) * min(size[0] / image_size[0], size[1] / image_size[1])
        rows, columns = (
            _axis(max(1, int(source * zoom)), canvas, source, rng.uniform())
            for source, canvas in zip(image_size, size, strict=True)
        )
        return Window(image_size, size, columns, rows)


def _axis(length: int, canvas: int, source: int, position: float) -> tuple[int, int, int, int]:
    """One axis of a placement in whole pixels: source start, source end, canvas start, canvas end.

    Args:
        length: pixels of the scaled image.
        canvas, source: pixels of the canvas and of the image.
        position: offset of the crop between its first and last possible position, 0..1.
    """
    if length <= canvas:
        return 0, source, 0, length
    start = int((length - canvas) * position)
    first = min(round(start / length * source), source - 1)
    return first, max(first + 1, min(round((start + canvas) / length * source), source)), 0, canvas
