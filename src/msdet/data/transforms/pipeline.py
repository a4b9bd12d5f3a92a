"""From one sample to one filled canvas: the steps of `src/msdet/data/transforms/augment.py` in a row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msdet.data.transforms.augment import (
    ColourJitter,
    Flip,
    JitterCrop,
    LoadSample,
    Mixer,
    Placement,
    Resize,
    Transform,
)
from msdet.data.transforms.resize import Geometry


@dataclass(frozen=True)
class Pipeline:
    """mix (or load) -> before -> place -> after.

    Attributes:
        place: brings the image to the size of the network's input.
        before: transforms of the image at its own size.
        after: transforms of the canvas, which keep its size.
        mix: makes the image out of several samples; without it the sample is loaded alone.
    """

    place: Placement
    before: tuple[Transform, ...] = ()
    after: tuple[Transform, ...] = ()
    mix: Mixer | None = None

    def __call__(
        self, load: LoadSample, index: int, count: int, canvas: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, Geometry]:
        """Fills `canvas` uint8 (h, w, 3) from sample `index` of `count`.

        Returns:
            boxes float32 (n, 4) xyxy px of the canvas, labels int32 (n,), and the geometry of the placement (which
            tells the way back only where no other step moved the boxes).
        """
        image, boxes, labels = load(index) if self.mix is None else self.mix(index, count, load, rng)
        for step in self.before:
            image, boxes, labels = step(image, boxes, labels, rng)
        boxes, labels, geometry = self.place(image, boxes, labels, canvas, rng)
        image = canvas
        for step in self.after:
            image, boxes, labels = step(image, boxes, labels, rng)
        if image is not canvas:
            canvas[...] = image
        return boxes, labels, geometry


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
