"""Chains the steps of `augment.py`: from a sample to a filled canvas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msdet.data.transforms.augment import (
    ColourJitter,
    Flip,
    JitterCrop,
    LabelledImage,
    Placement,
    Resize,
    Transform,
)
from msdet.data.transforms.resize import Geometry


@dataclass(frozen=True)
class Pipeline:
    """before -> place -> after.

    Attributes:
        place: fits the image to the input size of the network.
        before: transforms of the image at its original size.
        after: transforms of the canvas that keep its size.
    """

    place: Placement
    before: tuple[Transform, ...] = ()
    after: tuple[Transform, ...] = ()

    def __call__(
        self, sample: LabelledImage, canvas: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, Geometry]:
        """Fills `canvas` uint8 (h, w, 3) from a sample, which may be modified.

        Returns:
            boxes float32 (n, 4) xyxy px of the canvas, labels int32 (n,), and the geometry of the placement (its
            inverse is valid only if no other step moves boxes).
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

    def transform_image(
        self, image: np.ndarray, size: tuple[int, int], rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, Geometry]:
        """Transforms an image uint8 (H, W, 3) without annotations to an input of `size` (h, w); also its geometry."""
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
    """Resize only, as in evaluation; with `flip` > 0 also a horizontal flip with that probability, for training."""
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
