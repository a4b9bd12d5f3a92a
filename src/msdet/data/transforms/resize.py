"""Resizing an image to the network's input, and the exact inverse transform of boxes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from msdet.errors import UsageError
from msdet.ops.boxes import clip_boxes

RESIZE_MODES = ("stretch", "letterbox", "letterbox_top_left")
INTERPOLATIONS = {
    # INTER_NEAREST samples the corner of a pixel, not its centre, and shifts a shrunk image by half a pixel.
    "nearest": cv2.INTER_NEAREST_EXACT,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
}
INTERPOLATION_NAMES = (*INTERPOLATIONS, "old_zoo")


@dataclass(frozen=True, slots=True)
class Geometry:
    """Transform from image pixels to input pixels: x_net = x * scale_x + pad_x, and the same for y.

    Attributes:
        orig_w, orig_h: pixels of the original image.
        net_w, net_h: pixels of the network's input.
        scale_x, scale_y: actual factors of the resize, after rounding to whole pixels.
        pad_x, pad_y: pixels to the left and above the image.
    """

    orig_w: int
    orig_h: int
    net_w: int
    net_h: int
    scale_x: float
    scale_y: float
    pad_x: float = 0.0
    pad_y: float = 0.0

    def forward(self, boxes: np.ndarray) -> np.ndarray:
        """Transforms xyxy boxes (n, 4) from image pixels to input pixels; float32."""
        scale = np.array([self.scale_x, self.scale_y] * 2)
        pad = np.array([self.pad_x, self.pad_y] * 2)
        return (boxes * scale + pad).astype(np.float32)

    def inverse(self, boxes: np.ndarray, clip: bool = False) -> np.ndarray:
        """Transforms xyxy boxes (n, 4) from input pixels to image pixels, optionally clipped to the image; float32."""
        scale = np.array([self.scale_x, self.scale_y] * 2)
        pad = np.array([self.pad_x, self.pad_y] * 2)
        back = (boxes - pad) / scale
        return (clip_boxes(back, self.orig_w, self.orig_h) if clip else back).astype(np.float32)

    @property
    def valid_size(self) -> tuple[int, int]:
        """Height and width of the part of the network's input that the image covers."""
        return round(self.orig_h * self.scale_y), round(self.orig_w * self.scale_x)


def size_of(image: np.ndarray) -> tuple[int, int]:
    """Height and width of an array (H, W, ...)."""
    height, width = image.shape[:2]
    return height, width


def plan_resize(width: int, height: int, size: tuple[int, int], mode: str) -> Geometry:
    """Geometry of resizing an image of `width` x `height` pixels to `size` (h, w).

    Modes: `stretch` ignores the aspect ratio; `letterbox` keeps it and centres the image; `letterbox_top_left` keeps
    it and pads at the right and bottom, truncating the shorter side to whole pixels (the others round), as the
    published EfficientDet does.

    Raises:
        UsageError: unknown mode.
    """
    net_h, net_w = size
    if mode == "stretch":
        return Geometry(width, height, net_w, net_h, net_w / width, net_h / height)
    if mode not in RESIZE_MODES:
        raise UsageError(f"unknown resize mode {mode!r}: choose one of {', '.join(RESIZE_MODES)}")
    scale_x, scale_y = net_w / width, net_h / height
    scale = min(scale_x, scale_y)
    whole = int if mode == "letterbox_top_left" else round
    new_w = net_w if scale == scale_x else max(1, whole(width * scale))
    new_h = net_h if scale == scale_y else max(1, whole(height * scale))
    pad_x, pad_y = ((net_w - new_w) // 2, (net_h - new_h) // 2) if mode == "letterbox" else (0, 0)
    return Geometry(width, height, net_w, net_h, new_w / width, new_h / height, pad_x, pad_y)


def choose_interpolation(name: str, from_size: tuple[int, int], to_size: tuple[int, int]) -> int:
    """OpenCV's flag of a named interpolation for a resize between sizes (h, w).

    `old_zoo` is the rule by which the published YOLO weights of the old model zoo were evaluated: cubic if both sides
    grow, nearest if both shrink, linear otherwise.

    Raises:
        UsageError: unknown name.
    """
    if name in INTERPOLATIONS:
        return INTERPOLATIONS[name]
    if name != "old_zoo":
        raise UsageError(f"unknown interpolation {name!r}: choose one of {', '.join(INTERPOLATION_NAMES)}")
    if to_size[0] > from_size[0] and to_size[1] > from_size[1]:
        return cv2.INTER_CUBIC
    if to_size[0] < from_size[0] and to_size[1] < from_size[1]:
        return cv2.INTER_NEAREST_EXACT
    return cv2.INTER_LINEAR


def resize_for_eval(
    image: np.ndarray,
    size: tuple[int, int],
    mode: str = "stretch",
    interpolation: str = "linear",
    pad_value: int | tuple[int, int, int] = 128,
    out: np.ndarray | None = None,
) -> tuple[np.ndarray, Geometry]:
    """Resizes an image to the network's input, as evaluation does.

    Args:
        image: uint8 (H, W, 3).
        size: (h, w) of the network's input, in pixels.
        mode: one of `RESIZE_MODES`.
        interpolation: one of `INTERPOLATION_NAMES`.
        pad_value: padding value of letterboxing, one for all channels or one per channel.
        out: uint8 (h, w, 3) to write into; None: a new array.

    Returns:
        The image uint8 (h, w, 3) and the geometry that transforms boxes and inverts the transform.
    """
    geometry = plan_resize(image.shape[1], image.shape[0], size, mode)
    canvas = np.empty((*size, 3), np.uint8) if out is None else out
    new_h, new_w = geometry.valid_size
    top, left = int(geometry.pad_y), int(geometry.pad_x)
    if (new_h, new_w) != tuple(size):
        canvas[...] = pad_value
    resize_into(image, canvas[top : top + new_h, left : left + new_w], interpolation)
    return canvas, geometry


def resize_into(image: np.ndarray, target: np.ndarray, interpolation: str) -> None:
    """Resizes `image` uint8 (H, W, 3) to fill `target`, a uint8 (h, w, 3) view, in place."""
    height, width = size_of(target)
    if size_of(image) == (height, width):
        target[...] = image
        return
    flag = choose_interpolation(interpolation, size_of(image), (height, width))
    cv2.resize(image, (width, height), dst=target, interpolation=flag)
