"""Scale jitter that leaves the image at the top left, as EfficientDet is trained with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msdet.data.transforms.augment import Window, drop_slivers
from msdet.data.transforms.resize import Geometry, size_of


@dataclass(frozen=True)
class ScaleJitter:
    """Placement that keeps the aspect ratio, zooms by chance, and pads to the right and below (google/automl).

    s is drawn from U(scale); the image is scaled to fit s times the canvas. Where it is smaller than the canvas it lies
    at the top left; where it is larger, a part of the canvas' size is cut out of it at a random place. Only the part
    that is seen is resized, from whole source pixels, and boxes follow what was really done.

    Attributes:
        scale: range of the size relative to the largest that fits.
        interpolation: of the resize.
        fill: grey of the padding.
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
        window = self.draw(size_of(image), size, rng)
        moved, kept = drop_slivers(window.geometry().forward(boxes), size, self.min_side)
        window.paste(image, canvas, self.fill, self.interpolation)
        return moved[kept], labels[kept], window.geometry()

    def draw(self, image_size: tuple[int, int], size: tuple[int, int], rng: np.random.Generator) -> Window:
        """Draws one placement of an image of `image_size` (H, W) on a canvas of `size` (h, w)."""
        zoom = rng.uniform(*self.scale) * min(size[0] / image_size[0], size[1] / image_size[1])
        rows, columns = (
            _axis(max(1, int(source * zoom)), canvas, source, rng.uniform())
            for source, canvas in zip(image_size, size, strict=True)
        )
        return Window(image_size, size, columns, rows)


def _axis(length: int, canvas: int, source: int, share: float) -> tuple[int, int, int, int]:
    """One axis of a placement in whole pixels: source from, to, canvas from, to.

    Args:
        length: pixels of the scaled image.
        canvas, source: pixels of the canvas and of the image.
        share: where the cut lies between its first and its last place, 0..1.
    """
    if length <= canvas:
        return 0, source, 0, length
    start = int((length - canvas) * share)
    first = min(round(start / length * source), source - 1)
    return first, max(first + 1, min(round((start + canvas) / length * source), source)), 0, canvas
