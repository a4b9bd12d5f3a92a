"""The resize of a classifier's evaluation: to a fixed size of the shortest side or of both, then the centre."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from src.data.geometry import Geometry, choose_interpolation


@dataclass(frozen=True)
class ResizeAndCrop:
    """A placement: resizes the image and fills the canvas with its centre.

    MindSpore's C++ operators Resize and CenterCrop give the same pixels (a test holds them equal, bit for bit): sides
    are cut to whole pixels, and so is the margin above and to the left.

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
        resized = image if (height, width) == (new_h, new_w) else cv2.resize(image, (new_w, new_h), interpolation=flag)
        top, left = (new_h - side_h) // 2, (new_w - side_w) // 2
        canvas[...] = resized[top : top + side_h, left : left + side_w]
        geometry = Geometry(width, height, side_w, side_h, new_w / width, new_h / height, -left, -top)
        return geometry.forward(boxes), labels, geometry

    def _resized(self, height: int, width: int, side: int) -> tuple[int, int]:
        resize = self.resize or side * 8 // 7
        if self.mode == "stretch":
            return resize, resize
        if height < width:
            return resize, int(resize * width / height)
        return int(resize * height / width), resize
