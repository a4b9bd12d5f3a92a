"""Augmentation of classifiers by MindSpore's C++ image operators, one picture at a time.

MindSpore is imported when the first image is augmented: without it, workers of detectors start in a tenth of the time.

The operators are called directly and not as a `mindspore.dataset` pipeline, because a pipeline draws from one generator
for all pictures in turn: which picture gets which crop then depends on the number of threads, and a run could go on in
the middle of an epoch only by making all earlier batches again. Here each picture seeds the operators with numbers from
its own generator.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msdet.data.images.decode import decode_image, read_encoded
from msdet.errors import UserError

# MindSpore decodes just the part of a JPEG that the crop needs; WebP and others it does not decode at all, and it turns
# no image upright.
_DECODED_BY_MINDSPORE = ("jpeg", "png", "bmp")


@dataclass(frozen=True)
class CropFlipColour:
    """Decodes a random crop of the picture, resizes it to the input, mirrors it and changes its colours.

    Attributes:
        area: range of the crop's area, share of the picture.
        aspect: range of its aspect ratio (width / height).
        flip: probability of a left-right flip.
        colour: largest change of brightness, contrast and saturation: factors are drawn from 1 - x .. 1 + x.
    """

    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (0.75, 1.333)
    flip: float = 0.5
    colour: tuple[float, float, float] = (0.4, 0.4, 0.4)

    def __call__(
        self, path: Path, canvas: np.ndarray, rng: np.random.Generator, max_pixels: int, data: bytes | None = None
    ) -> None:
        """Fills `canvas` uint8 (h, w, 3) RGB; `data` are the bytes of the file, if it has been read.

        Raises:
            UserError: the file is missing, damaged, or no picture that MindSpore or OpenCV decodes.
        """
        from mindspore.dataset import vision

        encoded, header = read_encoded(path, max_pixels, data)
        # Operators with one seed would draw the same numbers: small crops would be mirrored, large ones not.
        crop_seed, colour_seed = rng.integers(0, 2**31 - 1, 2).tolist()
        # Both operators draw the same crop from one seed.
        crop, source = vision.RandomCropDecodeResize(canvas.shape[:2], self.area, self.aspect), encoded
        if header.format not in _DECODED_BY_MINDSPORE or header.orientation != 1 or header.bits > 8:
            crop = vision.RandomResizedCrop(canvas.shape[:2], self.area, self.aspect)
            source = decode_image(path, max_pixels=max_pixels, data=encoded.tobytes())
        try:
            image = _seeded(crop, crop_seed, source)
        except (RuntimeError, TypeError) as error:
            raise UserError(f"image {path} is damaged: MindSpore cannot decode it") from error
        if rng.random() < self.flip:
            image = vision.HorizontalFlip()(image)
        if any(self.colour):
            image = _seeded(vision.RandomColorAdjust(*[(1 - x, 1 + x) for x in self.colour]), colour_seed, image)
        canvas[...] = image


def _seeded(operator: Any, seed: int, value: np.ndarray) -> np.ndarray:
    """Runs an operator whose generator starts at `seed`; leaves the seed of other pipelines as it was."""
    from mindspore.dataset import config

    before = config.get_seed()
    config.set_seed(seed)
    try:
        return operator(value)
    finally:
        config.set_seed(before)
