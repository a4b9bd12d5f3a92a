"""Augmentation of images and boxes, from the decoded image to the network's input.

Each step is a small dataclass:

- a `SampleSource` loads samples: (image uint8 HWC RGB, boxes float32 (n, 4) xyxy px, labels int32 (n,)); the mosaic
  is a source that combines several samples of another source;
- a `Transform` takes and returns a sample;
- a `Placement` writes an image into the canvas, the uint8 (h, w, 3) array that is the network's input.

`pipeline.py` chains them. All random numbers come from the generator passed in. A step may modify its arguments in
place: the caller does not reuse them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from msdet.data.transforms.resize import Geometry, plan_resize, resize_for_eval, resize_into, size_of
from msdet.ops.boxes import clip_boxes

LabelledImage = tuple[np.ndarray, np.ndarray, np.ndarray]


class Transform(Protocol):
    """A step before or after the placement."""

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> LabelledImage:
        """Returns the transformed image, boxes and labels. After the placement, the image size must not change."""
        ...


class Placement(Protocol):
    """The step that fits an image to the input size of the network."""

    def __call__(
        self,
        image: np.ndarray,
        boxes: np.ndarray,
        labels: np.ndarray,
        canvas: np.ndarray,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray, Geometry]:
        """Fills `canvas`; returns the boxes in canvas pixels, their labels, and the geometry of the resize."""
        ...


class SampleSource(Protocol):
    """Loads the samples of a dataset; a source may wrap another one, as the mosaic does."""

    def __len__(self) -> int: ...

    def load(self, index: int, rng: np.random.Generator) -> LabelledImage:
        """Image, boxes and labels of sample `index`; the caller may modify them."""
        ...


def sample_interpolation(name: str, choices: tuple[str, ...], rng: np.random.Generator) -> str:
    """`name`, or a random one of `choices` if `name` is `random`; only then is the generator used."""
    return choices[int(rng.integers(len(choices)))] if name == "random" else name


@dataclass(frozen=True)
class Resize:
    """Deterministic placement: stretch or letterbox; see `resize_for_eval` for the fields."""

    mode: str = "stretch"
    interpolation: str = "linear"
    pad_value: int | tuple[int, int, int] = 128

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, canvas: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, Geometry]:
        _, geometry = resize_for_eval(image, size_of(canvas), self.mode, self.interpolation, self.pad_value, canvas)
        return geometry.forward(boxes), labels, geometry

    def plan(self, width: int, height: int, size: tuple[int, int]) -> Geometry:
        """Geometry for an image of `width` x `height` pixels and a canvas of `size` (h, w)."""
        return plan_resize(width, height, size, self.mode)


@dataclass(frozen=True)
class JitterCrop:
    """Placement of the YOLO models: random aspect ratio, scale and position; crops, or pads with grey.

    The image is resized to new_w x new_h pixels and placed at (dx, dy) on a canvas of W x H pixels. With u and v from
    U(1 - jitter, 1 + jitter), s from U(scale), and a the aspect ratio of the canvas (or of the image):
    aspect = a * u / v; new_w = s * W and new_h = new_w / aspect if the aspect is wider than the canvas, otherwise
    new_h = s * H and new_w = new_h * aspect; dx from U(0, W - new_w), where a negative value crops. Only the visible
    part is cropped (to whole source pixels) and resized; boxes are transformed by the geometry after rounding. A
    placement that keeps no box is sampled again; after `trials` attempts the image is stretched instead.

    Attributes:
        jitter: spread of the aspect ratio.
        scale: range of the size relative to the canvas.
        aspect: the aspect ratio that is jittered: `network` (evaluation by `stretch`) or `image` (by `letterbox`).
        fill: padding value around an image smaller than the canvas.
        interpolation: a name, or `random` for a random one of `interpolations` per image.
        trials: maximum number of placements that are sampled.
        min_side: a box must keep more than this many canvas pixels in width and in height, or it is dropped.
    """

    jitter: float = 0.3
    scale: tuple[float, float] = (0.25, 2.0)
    aspect: str = "network"
    fill: int = 128
    interpolation: str = "random"
    interpolations: tuple[str, ...] = ("nearest", "linear", "cubic")
    trials: int = 10
    min_side: float = 1.0

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, canvas: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, Geometry]:
        interpolation = sample_interpolation(self.interpolation, self.interpolations, rng)
        size = size_of(canvas)
        for _ in range(self.trials):
            window = self.sample_window(size_of(image), size, rng)
            moved, kept = clip_to_canvas(window.geometry().forward(boxes), size, self.min_side)
            if kept.any() or not len(boxes):
                window.paste(image, canvas, self.fill, interpolation)
                return moved[kept], labels[kept], window.geometry()
        _, geometry = resize_for_eval(image, size, "stretch", interpolation, self.fill, canvas)
        moved, kept = clip_to_canvas(geometry.forward(boxes), size, self.min_side)
        return moved[kept], labels[kept], geometry

    def sample_window(self, image_size: tuple[int, int], size: tuple[int, int], rng: np.random.Generator) -> Window:
        """Samples a placement of an image of `image_size` (H, W) on a canvas of `size` (h, w)."""
        height, width = size
        of = size if self.aspect == "network" else image_size
        upper, lower = rng.uniform(1 - self.jitter, 1 + self.jitter, 2)
        aspect = of[1] / of[0] * upper / lower
        scale = rng.uniform(*self.scale)
        if aspect < width / height:
            new_h = scale * height
            new_w = new_h * aspect
        else:
            new_w = scale * width
            new_h = new_w / aspect
        left = rng.uniform() * (width - new_w)
        top = rng.uniform() * (height - new_h)
        return Window(
            image_size,
            size,
            visible_part(left, new_w, width, image_size[1]),
            visible_part(top, new_h, height, image_size[0]),
        )


def visible_part(start: float, length: float, canvas: int, source: int) -> tuple[int, int, int, int]:
    """One axis of a placement in whole pixels: source start, source end, canvas start, canvas end."""
    low, high = max(0.0, start), min(float(canvas), start + length)
    to_low = min(round(low), canvas - 1)
    to_high = max(to_low + 1, min(round(high), canvas))
    from_low = min(max(round((low - start) / length * source), 0), source - 1)
    from_high = max(from_low + 1, min(round((high - start) / length * source), source))
    return from_low, from_high, to_low, to_high


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of the source image and the rectangle of the canvas it fills.

    Attributes:
        source_size, canvas_size: (h, w).
        columns, rows: source start, source end, canvas start, canvas end; whole pixels.
    """

    source_size: tuple[int, int]
    canvas_size: tuple[int, int]
    columns: tuple[int, int, int, int]
    rows: tuple[int, int, int, int]

    def geometry(self) -> Geometry:
        """The transform from source pixels to canvas pixels."""
        scale_x = (self.columns[3] - self.columns[2]) / (self.columns[1] - self.columns[0])
        scale_y = (self.rows[3] - self.rows[2]) / (self.rows[1] - self.rows[0])
        return Geometry(
            self.source_size[1],
            self.source_size[0],
            self.canvas_size[1],
            self.canvas_size[0],
            scale_x,
            scale_y,
            self.columns[2] - self.columns[0] * scale_x,
            self.rows[2] - self.rows[0] * scale_y,
        )

    def paste(
        self, image: np.ndarray, canvas: np.ndarray, fill: int | tuple[int, int, int], interpolation: str
    ) -> None:
        """Resizes the source rectangle into the canvas rectangle and fills the rest of the canvas."""
        (left, right, to_left, to_right), (top, bottom, to_top, to_bottom) = self.columns, self.rows
        if (to_right - to_left, to_bottom - to_top) != (canvas.shape[1], canvas.shape[0]):
            canvas[...] = fill
        resize_into(image[top:bottom, left:right], canvas[to_top:to_bottom, to_left:to_right], interpolation)


def clip_to_canvas(boxes: np.ndarray, size: tuple[int, int], min_side: float) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (n, 4) clipped to a canvas of `size` (h, w), and a mask of those larger than `min_side` along both axes."""
    boxes = clip_boxes(boxes, size[1], size[0])
    return boxes, ((boxes[:, 2:] - boxes[:, :2]) > min_side).all(axis=1)


@dataclass(frozen=True)
class Flip:
    """Horizontal flip with probability `p`."""

    p: float = 0.5

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> LabelledImage:
        if rng.uniform() >= self.p:
            return image, boxes, labels
        mirrored = boxes.copy()
        mirrored[:, 0] = image.shape[1] - boxes[:, 2]
        mirrored[:, 2] = image.shape[1] - boxes[:, 0]
        return cv2.flip(image, 1, dst=image), mirrored, labels


# NTSC primaries (FCC 1953): luma and the two chroma axes as sums of R, G, B.
_RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_YIQ_TO_RGB = np.linalg.inv(_RGB_TO_YIQ)


def colour_matrix(hue: float, saturation: float, value: float) -> np.ndarray:
    """3x3 matrix that rotates the hue and scales saturation and brightness of RGB columns.

    Hue and saturation rotate and scale the chroma plane of YIQ, not the HSV hexcone: the direction is the same and,
    for small rotations, so are nearly all colours, at a fifth of the cost of two colour conversions. Greys keep their
    luma exactly.

    Args:
        hue: rotation as a fraction of the full circle; positive rotates red towards yellow, as in HSV.
        saturation: factor of the chroma.
        value: factor of all channels.
    """
    angle = 2 * np.pi * hue
    # Red lies at I > 0 and yellow towards negative Q, so a positive hue of HSV is a clockwise rotation.
    cos, sin = saturation * np.cos(angle), saturation * np.sin(angle)
    chroma = np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
    return value * (_YIQ_TO_RGB @ chroma @ _RGB_TO_YIQ)


@dataclass(frozen=True)
class ColourJitter:
    """Random hue, saturation and brightness, as one 3x3 matrix on the pixels (see `colour_matrix`).

    Attributes:
        hue: the rotation is sampled from U(-hue, hue), as a fraction of the full circle.
        saturation, value: the factor is sampled from U(1, limit) and inverted with probability 0.5.
    """

    hue: float = 0.1
    saturation: float = 1.5
    value: float = 1.5

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> LabelledImage:
        matrix = colour_matrix(
            rng.uniform(-self.hue, self.hue), _factor(self.saturation, rng), _factor(self.value, rng)
        )
        return cv2.transform(image, matrix.astype(np.float32), dst=image), boxes, labels


def _factor(limit: float, rng: np.random.Generator) -> float:
    factor = rng.uniform(1, limit)
    return factor if rng.uniform() < 0.5 else 1 / factor
