"""Resize and centre crop for the evaluation of classifiers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from msdet.data.transforms.resize import Geometry, choose_interpolation

# Largest resized image as a multiple of the canvas area; images up to an aspect ratio of about 50 stay below it.
_MAX_CANVAS_AREAS = 64
# Source pixels around the crop that the interpolation reads.
_MARGIN = 2


@dataclass(frozen=True)
class _AxisCrop:
    """One axis: the slice of the source, the length it is resized to, and the slice of that which fills the canvas."""

    source: slice
    length: int
    shown: slice


def _crop_axis(side: int, resized: int, start: int, shown: int, is_cut: bool) -> _AxisCrop:
    """The source slice from which pixels `start` to `start + shown` of the resized axis are made.

    With `is_cut`, the slice is resized alone and its ends are rounded to whole pixels of the result, an error of less
    than half a pixel.
    """
    if not is_cut:
        return _AxisCrop(slice(0, side), resized, slice(start, start + shown))
    scale = resized / side
    first = max(0, math.floor(start / scale) - _MARGIN)
    last = min(side, math.ceil((start + shown) / scale) + _MARGIN)
    begin, end = round(first * scale), round(last * scale)
    return _AxisCrop(slice(first, last), end - begin, slice(start - begin, start - begin + shown))


@dataclass(frozen=True)
class ResizeAndCrop:
    """Placement that resizes the image and crops its centre to the canvas.

    The result equals that of MindSpore's C++ operators Resize and CenterCrop bit for bit (verified by a test): sizes
    and offsets are truncated to whole pixels. Images with an extreme aspect ratio differ by up to half a canvas pixel.

    Attributes:
        mode: "shortest_side" keeps the aspect ratio, "stretch" does not.
        resize: size of the shortest side (or of both) in px, at least the side of the canvas; 0: 8/7 of the canvas.
        interpolation: one of `INTERPOLATION_NAMES`.
    """

    mode: str = "shortest_side"
    resize: int = 0
    interpolation: str = "linear"

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, canvas: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, Geometry]:
        """Fills `canvas` uint8 (h, w, 3); boxes are transformed too, and may lie outside the canvas."""
        height, width = image.shape[:2]
        side_h, side_w = canvas.shape[:2]
        new_h, new_w = self._resized(height, width, max(side_h, side_w))
        flag = choose_interpolation(self.interpolation, (height, width), (new_h, new_w))
        top, left = (new_h - side_h) // 2, (new_w - side_w) // 2
        # Of an enlarged image with an extreme aspect ratio only the centre is resized, to bound the memory.
        is_long = new_h * new_w > max(height * width, _MAX_CANVAS_AREAS * side_h * side_w)
        rows, columns = (
            _crop_axis(*axis, is_long) for axis in ((height, new_h, top, side_h), (width, new_w, left, side_w))
        )
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
