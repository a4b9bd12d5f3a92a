"""The resize of a classifier's evaluation: to a fixed size of the shortest side or of both, then the centre."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from msdet.data.transforms.resize import Geometry, choose_interpolation

# Times the area of the canvas; images up to an aspect ratio of about 50 are resized as a whole.
_LONG = 64
# Pixels of the image beside a part that its interpolation looks at.
_MARGIN = 2


@dataclass(frozen=True)
class _Part:
    """Along one side: what is cut out of the image, the length it is resized to, and what the canvas shows of that."""

    source: slice
    length: int
    shown: slice


def _part(side: int, resized: int, start: int, shown: int, is_cut: bool) -> _Part:
    """The part of a side that gives pixels `start` to `start + shown` of its resized length.

    Cut out of the rest, its ends fall on whole pixels of the result: less than half of one from where they would lie.
    """
    if not is_cut:
        return _Part(slice(0, side), resized, slice(start, start + shown))
    scale = resized / side
    first = max(0, math.floor(start / scale) - _MARGIN)
    last = min(side, math.ceil((start + shown) / scale) + _MARGIN)
    begin, end = round(first * scale), round(last * scale)
    return _Part(slice(first, last), end - begin, slice(start - begin, start - begin + shown))


@dataclass(frozen=True)
class ResizeAndCrop:
    """A placement: resizes the image and fills the canvas with its centre.

    MindSpore's C++ operators Resize and CenterCrop give the same pixels (a test holds them equal, bit for bit): sides
    are cut to whole pixels, and so is the margin above and to the left. Images much longer than wide are up to half a
    pixel of the canvas apart.

    Attributes:
        mode: "shortest_side" keeps the aspect ratio, "stretch" resizes both sides.
        resize: px of the shortest side, or of both; 0: 8/7 of the canvas. At least the side of the canvas.
        interpolation: as of the evaluation of detectors.
    """

    mode: str = "shortest_side"
    resize: int = 0
    interpolation: str = "linear"

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, canvas: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, Geometry]:
        """Fills `canvas` uint8 (h, w, 3); boxes go with the image, and may lie outside the canvas."""
        height, width = image.shape[:2]
        side_h, side_w = canvas.shape[:2]
        new_h, new_w = self._resized(height, width, max(side_h, side_w))
        flag = choose_interpolation(self.interpolation, (height, width), (new_h, new_w))
        top, left = (new_h - side_h) // 2, (new_w - side_w) // 2
        # Of a long image that is enlarged only the middle is resized: the whole can take a hundred times its memory.
        is_long = new_h * new_w > max(height * width, _LONG * side_h * side_w)
        rows, columns = (_part(*axis, is_long) for axis in ((height, new_h, top, side_h), (width, new_w, left, side_w)))
        part = image[rows.source, columns.source]
        if part.shape[:2] != (rows.length, columns.length):
            part = cv2.resize(part, (columns.length, rows.length), interpolation=flag)
        canvas[...] = part[rows.shown, columns.shown]
        geometry = Geometry(width, height, side_w, side_h, new_w / width, new_h / height, -left, -top)
        return geometry.forward(boxes), labels, geometry

    def _resized(self, height: int, width: int, side: int) -> tuple[int, int]:
        resize = self.resize or side * 8 // 7
        if self.mode == "stretch":
            return resize, resize
        if height < width:
            return resize, int(resize * width / height)
        return int(resize * height / width), resize
