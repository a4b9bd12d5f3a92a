"""The augmentation of SSD (Liu et al., 2016, sections 2.2 and 3.6), which RefineDet is trained with."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from msdet.data.transforms.augment import (
    Labelled,
    Window,
    colour_matrix,
    draw_interpolation,
    drop_slivers,
    visible_part,
)
from msdet.data.transforms.resize import Geometry, resize_for_eval, size_of
from msdet.ops.boxes import iou_matrix

_TRIALS = 50
# "The whole image", and "any crop".
_WHOLE, _ANY = -1.0, 0.0


@dataclass(frozen=True)
class PhotometricDistort:
    """Changes brightness, contrast, saturation and hue, each by chance, as one affine map of RGB.

    Saturation and hue are turned in YIQ, not in the HSV hexcone: see `colour_matrix`.

    Attributes:
        probability: of each of the four changes.
        brightness: grey levels added, drawn from U(-brightness, brightness).
        contrast, saturation: ranges of the factors.
        hue: the turn is drawn from U(-hue, hue), as a share of the full circle.
    """

    probability: float = 0.5
    brightness: float = 32.0
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: float = 0.1

    def __call__(self, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Labelled:
        # All numbers are drawn always, so that what follows does not depend on which of them are used.
        is_used = rng.uniform(size=4) < self.probability
        drawn = (
            rng.uniform(-self.brightness, self.brightness),
            rng.uniform(*self.contrast),
            rng.uniform(*self.saturation),
            rng.uniform(-self.hue, self.hue),
        )
        added, contrast, saturation, hue = np.where(is_used, drawn, (0.0, 1.0, 1.0, 0.0)).tolist()
        if not is_used.any():
            return image, boxes, labels
        # Brightness comes first, and then is multiplied with the rest; greys stay greys under hue and saturation.
        matrix = np.column_stack((colour_matrix(hue, saturation, contrast), np.full(3, contrast * added)))
        return cv2.transform(image, matrix.astype(np.float32), dst=image), boxes, labels


@dataclass(frozen=True)
class ExpandCrop:
    """Placement: the image on a larger one of one colour, a crop of that, stretched to the canvas.

    By chance the image is put at a random place on one that is r times as wide and high, r from U(1, expand_ratio).
    Then one of these is chosen: the whole; a crop that overlaps some box by at least one of `overlaps` (IoU); any crop.
    A crop's sides are s sqrt(a) and s / sqrt(a) of the whole's, s from U(scale), a from U(aspect) but so that the crop
    fits. Boxes whose centre lies outside are dropped, the others cut. A crop must keep a box; if none of 50 does as it
    should, another kind is chosen. Images without boxes are cropped but not made smaller.

    Only what is seen is cut (to whole source pixels) and resized, straight into its place; boxes follow what was really
    done.

    Attributes:
        expand_probability, expand_ratio: see above.
        overlaps: see above.
        scale, aspect: see above.
        interpolation: a name, or `random` for one of `interpolations` an image.
        fill: colour around the image, one value or R, G, B.
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
        interpolation = draw_interpolation(self.interpolation, self.interpolations, rng)
        size = size_of(canvas)
        window = self._window(self.draw(size_of(image), boxes, rng), size_of(image), size)
        moved = window.geometry().forward(boxes)
        centres = (moved[:, :2] + moved[:, 2:]) / 2
        inside = ((centres > 0) & (centres < (size[1], size[0]))).all(axis=1)
        moved, is_large = drop_slivers(moved, size, self.min_side)
        kept = inside & is_large
        if kept.any() or not len(boxes):
            window.paste(image, canvas, self.fill, interpolation)
            return moved[kept], labels[kept], window.geometry()
        # Rounding to whole pixels took the last box: rare, and better stretched than without a box.
        _, geometry = resize_for_eval(image, size, "stretch", interpolation, out=canvas)
        return *_both(drop_slivers(geometry.forward(boxes), size, self.min_side), labels), geometry

    def draw(self, image_size: tuple[int, int], boxes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draws the rectangle (4,), xyxy in px of the image of `image_size` (H, W), that the canvas shows; float64."""
        whole = np.array([0.0, 0.0, image_size[1], image_size[0]])
        if len(boxes) and rng.uniform() < self.expand_probability:
            ratio = rng.uniform(1, self.expand_ratio)
            sides = ratio * whole[2:]
            start = -rng.uniform(size=2) * (sides - whole[2:])
            whole = np.concatenate((start, start + sides))
        kinds = (_WHOLE, *self.overlaps, _ANY)
        while True:
            least = kinds[int(rng.integers(len(kinds)))]
            if least == _WHOLE:
                return whole
            crops = self.crops(whole, rng)
            good = np.ones(_TRIALS, bool)
            if len(boxes):
                centres = (boxes[:, :2] + boxes[:, 2:]) / 2
                within = (centres > crops[:, None, :2]) & (centres < crops[:, None, 2:])
                good = (iou_matrix(crops, boxes) >= least).any(axis=1) & within.all(axis=2).any(axis=1)
            if good.any():
                return crops[int(good.argmax())]

    def crops(self, whole: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Fifty rectangles (50, 4) inside `whole` (4,)."""
        scale = rng.uniform(*self.scale, _TRIALS)
        low = np.maximum(self.aspect[0], scale**2)
        aspect = low + rng.uniform(size=_TRIALS) * np.maximum(np.minimum(self.aspect[1], scale**-2.0) - low, 0)
        shares = np.minimum(np.stack((scale * aspect**0.5, scale / aspect**0.5), 1), 1)
        sides = shares * (whole[2:] - whole[:2])
        start = whole[:2] + rng.uniform(size=(_TRIALS, 2)) * (whole[2:] - whole[:2] - sides)
        return np.concatenate((start, start + sides), 1)

    @staticmethod
    def _window(shown: np.ndarray, image_size: tuple[int, int], size: tuple[int, int]) -> Window:
        left, top, right, bottom = shown.tolist()
        x, y = size[1] / (right - left), size[0] / (bottom - top)
        return Window(
            image_size,
            size,
            visible_part(-left * x, image_size[1] * x, size[1], image_size[1]),
            visible_part(-top * y, image_size[0] * y, size[0], image_size[0]),
        )


def _both(cut: tuple[np.ndarray, np.ndarray], labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    boxes, kept = cut
    return boxes[kept], labels[kept]
