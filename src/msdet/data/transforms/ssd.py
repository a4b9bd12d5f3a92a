"""The augmentation of SSD (Liu et al., 2016, sections 2.2 and 3.6), also used by RefineDet."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from msdet.data.transforms.augment import (
    LabelledImage,
    Window,
    clip_to_canvas,
    colour_matrix,
    sample_interpolation,
    visible_part,
)
from msdet.data.transforms.resize import Geometry, resize_for_eval, size_of
from msdet.ops.boxes import iou_matrix

_TRIALS = 50
# Special values of the minimum overlap: the whole image, and any crop.
_WHOLE, _ANY = -1.0, 0.0


@dataclass(frozen=True)
class PhotometricDistort:
    """Random brightness, contrast, saturation and hue, combined into one affine transform of RGB.

    Saturation and hue are changed in YIQ, not in the HSV hexcone: see `colour_matrix`.

    Attributes:
        probability: of each of the four changes.
        brightness: the offset in grey levels is sampled from U(-brightness, brightness).
        contrast, saturation: ranges of the factors.
        hue: the rotation is sampled from U(-hue, hue), as a fraction of the full circle.
    """

    probability: float = 0.5
    brightness: float = 32.0
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: float = 0.1

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> LabelledImage:
        # Always sample all numbers, so that the state of the generator does not depend on which are used.
        is_used = rng.uniform(size=4) < self.probability
        sampled = (
            rng.uniform(-self.brightness, self.brightness),
            rng.uniform(*self.contrast),
            rng.uniform(*self.saturation),
            rng.uniform(-self.hue, self.hue),
        )
        added, contrast, saturation, hue = np.where(is_used, sampled, (0.0, 1.0, 1.0, 0.0)).tolist()
        if not is_used.any():
            return image, boxes, labels
        # Brightness comes before contrast, so the offset is scaled too; hue and saturation do not change greys.
        matrix = np.column_stack((colour_matrix(hue, saturation, contrast), np.full(3, contrast * added)))
        return cv2.transform(image, matrix.astype(np.float32), dst=image), boxes, labels


@dataclass(frozen=True)
class ExpandCrop:
    """Placement of SSD: zoom out, then a random crop that is stretched to the canvas.

    With probability `expand_probability` the image is placed at a random position on a plain background r times as
    wide and high, r from U(1, expand_ratio). Then one option is chosen with equal probability: the whole image; a crop
    with an IoU of at least one of `overlaps` with some box; any crop. The sides of a crop are s sqrt(a) and s / sqrt(a)
    of the whole, s from U(scale), a from U(aspect) limited so that the crop fits. Boxes whose centre lies outside are
    dropped, the others clipped. A crop must contain the centre of a box; if none of 50 crops qualifies, another option
    is chosen. Images without boxes are cropped but not expanded.

    Only the visible part is cropped (to whole source pixels) and resized; boxes are transformed by the geometry after
    rounding.

    Attributes:
        expand_probability, expand_ratio: see above.
        overlaps: minimum IoU of the crop options.
        scale, aspect: see above.
        interpolation: a name, or `random` for a random one of `interpolations` per image.
        fill: background colour, one value or R, G, B.
        min_side: a box must keep more than this many canvas pixels in width and in height, or it is dropped.
    """

    expand_probability: float = 0.5
    expand_ratio: float = 4.0
    overlaps: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    scale: tuple[float, float] = (0.3, 1.0)
    aspect: tuple[float, float] = (0.5, 2.0)
    interpolation: str = "random"
    fill: int | tuple[int, int, int] = (124, 116, 104)
    interpolations: tuple[str, ...] = ("nearest", "linear", "cubic")
    min_side: float = 1.0

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, canvas: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, Geometry]:
        interpolation = sample_interpolation(self.interpolation, self.interpolations, rng)
        size = size_of(canvas)
        window = self._window(self.sample_crop(size_of(image), boxes, rng), size_of(image), size)
        moved = window.geometry().forward(boxes)
        centres = (moved[:, :2] + moved[:, 2:]) / 2
        inside = ((centres > 0) & (centres < (size[1], size[0]))).all(axis=1)
        moved, is_large = clip_to_canvas(moved, size, self.min_side)
        kept = inside & is_large
        if kept.any() or not len(boxes):
            window.paste(image, canvas, self.fill, interpolation)
            return moved[kept], labels[kept], window.geometry()
        # Rounding to whole pixels removed the last box, which is rare: stretch the image instead.
        _, geometry = resize_for_eval(image, size, "stretch", interpolation, out=canvas)
        return *_keep(clip_to_canvas(geometry.forward(boxes), size, self.min_side), labels), geometry

    def sample_crop(self, image_size: tuple[int, int], boxes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Samples the visible rectangle (4,), xyxy in px of an image of `image_size` (H, W); float64."""
        whole = np.array([0.0, 0.0, image_size[1], image_size[0]])
        if len(boxes) and rng.uniform() < self.expand_probability:
            ratio = rng.uniform(1, self.expand_ratio)
            sides = ratio * whole[2:]
            start = -rng.uniform(size=2) * (sides - whole[2:])
            whole = np.concatenate((start, start + sides))
        options = (_WHOLE, *self.overlaps, _ANY)
        while True:
            min_iou = options[int(rng.integers(len(options)))]
            if min_iou == _WHOLE:
                return whole
            crops = self.sample_crops(whole, rng)
            good = np.ones(_TRIALS, bool)
            if len(boxes):
                centres = (boxes[:, :2] + boxes[:, 2:]) / 2
                within = (centres > crops[:, None, :2]) & (centres < crops[:, None, 2:])
                good = (iou_matrix(crops, boxes) >= min_iou).any(axis=1) & within.all(axis=2).any(axis=1)
            if good.any():
                return crops[int(good.argmax())]

    def sample_crops(self, whole: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Random rectangles (50, 4) inside `whole` (4,)."""
        scale = rng.uniform(*self.scale, _TRIALS)
        low = np.maximum(self.aspect[0], scale**2)
        aspect = low + rng.uniform(size=_TRIALS) * np.maximum(np.minimum(self.aspect[1], scale**-2.0) - low, 0)
        fractions = np.minimum(np.stack((scale * aspect**0.5, scale / aspect**0.5), 1), 1)
        sides = fractions * (whole[2:] - whole[:2])
        start = whole[:2] + rng.uniform(size=(_TRIALS, 2)) * (whole[2:] - whole[:2] - sides)
        return np.concatenate((start, start + sides), 1)

    @staticmethod
    def _window(visible: np.ndarray, image_size: tuple[int, int], size: tuple[int, int]) -> Window:
        left, top, right, bottom = visible.tolist()
        x, y = size[1] / (right - left), size[0] / (bottom - top)
        return Window(
            image_size,
            size,
            visible_part(-left * x, image_size[1] * x, size[1], image_size[1]),
            visible_part(-top * y, image_size[0] * y, size[0], image_size[0]),
        )


def _keep(clipped: tuple[np.ndarray, np.ndarray], labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    boxes, kept = clipped
    return boxes[kept], labels[kept]
