"""Augmentation of classifiers by MindSpore's C++ image operators, one image at a time.

MindSpore is imported when the first image is augmented: without it, workers of detectors start in a tenth of the time.

The operators are called directly and not as a `mindspore.dataset` pipeline, because a pipeline has one random generator
for all images: the crop of an image would depend on the number of threads, and resuming in the middle of an epoch would
require all earlier batches to be made again. Here the operators are seeded from the generator of each image.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msdet.data.images.decode import decode_image, read_encoded
from msdet.errors import UserError

# MindSpore decodes only the part of a JPEG that the crop needs. It does not decode WebP and others, and does not apply
# the EXIF orientation.
_DECODED_BY_MINDSPORE = ("jpeg", "png", "bmp")


@dataclass(frozen=True)
class CropFlipColour:
    """Random resized crop, horizontal flip and colour jitter, including the decoding.

    Attributes:
        area: range of the area of the crop, as a fraction of the image.
        aspect: range of its aspect ratio (width / height).
        flip: probability of a horizontal flip.
        colour: ranges of brightness, contrast and saturation: factors are sampled from U(1 - x, 1 + x).
    """

    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (0.75, 1.333)
    flip: float = 0.5
    colour: tuple[float, float, float] = (0.4, 0.4, 0.4)

    def __call__(
        self, path: Path, canvas: np.ndarray, rng: np.random.Generator, max_pixels: int, data: bytes | None = None
    ) -> None:
        """Fills `canvas` uint8 (h, w, 3) RGB; `data` is the content of the file, if it was read.

        Raises:
            UserError: the file is missing, damaged, or not an image that MindSpore or OpenCV can decode.
        """
        from mindspore.dataset import vision

        encoded, header = read_encoded(path, max_pixels, data)
        # With the same seed, the operators would be correlated: small crops would be flipped, large ones not.
        crop_seed, colour_seed = rng.integers(0, 2**31 - 1, 2).tolist()
        # Both operators sample the same crop from the same seed.
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
    """Runs an operator with the given seed, and restores the global seed."""
    from mindspore.dataset import config

    before = config.get_seed()
    config.set_seed(seed)
    try:
        return operator(value)
    finally:
        config.set_seed(before)
