"""From one sample to one filled canvas: the steps of `augment.py` in a row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msdet.data.transforms.augment import (
    ColourJitter,
    Flip,
    JitterCrop,
    Labelled,
    Placement,
    Resize,
    Transform,
)
from msdet.data.transforms.resize import Geometry


@dataclass(frozen=True)
class Pipeline:
    """before -> place -> after.

    Attributes:
        place: brings the image to the size of the network's input.
        before: transforms of the image at its own size.
        after: transforms of the canvas, which keep its size.
    """

    place: Placement
    before: tuple[Transform, ...] = ()
    after: tuple[Transform, ...] = ()

    def __call__(
        self, sample: Labelled, canvas: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, Geometry]:
        """Fills `canvas` uint8 (h, w, 3) from a sample, which may be changed on the way.

        Returns:
            boxes float32 (n, 4) xyxy px of the canvas, labels int32 (n,), and the geometry of the placement (which
            tells the way back only where no other step moved the boxes).
        """
        image, boxes, labels = sample
        for step in self.before:
            image, boxes, labels = step(image, boxes, labels, rng)
        boxes, labels, geometry = self.place(image, boxes, labels, canvas, rng)
        image = canvas
        for step in self.after:
            image, boxes, labels = step(image, boxes, labels, rng)
        if image is not canvas:
            canvas[...] = image
        return boxes, labels, geometry

    def image(
        self, image: np.ndarray, size: tuple[int, int], rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, Geometry]:
        """One image without annotations, uint8 (H, W, 3), in an input of `size` (h, w), and how it came there."""
        canvas = np.zeros((*size, 3), np.uint8)
        nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
        _, _, geometry = self((image, *nothing), canvas, rng or np.random.default_rng(0))
        return canvas, geometry


def plain_pipeline(
    mode: str = "stretch",
    interpolation: str = "linear",
    pad_value: int | tuple[int, int, int] = 128,
    flip: float = 0.0,
) -> Pipeline:
    """Resizing alone, as in evaluation; with `flip` > 0 also mirroring with that probability, for training."""
    return Pipeline(place=Resize(mode, interpolation, pad_value), after=(Flip(flip),) if flip > 0 else ())


def jitter_pipeline(
    jitter: float = 0.3,
    hue: float = 0.1,
    saturation: float = 1.5,
    value: float = 1.5,
    flip: float = 0.5,
    aspect: str = "network",
    scale: tuple[float, float] = (0.25, 2.0),
    interpolation: str = "random",
    fill: int = 128,
) -> Pipeline:
    """The training augmentation of YOLOv3 and YOLOv4: jitter crop, flip, colour."""
    return Pipeline(
        place=JitterCrop(jitter, scale, aspect, fill, interpolation),
        after=(Flip(flip), ColourJitter(hue, saturation, value)),
    )
