"""Renders random images of shapes on textured backgrounds.

The class of an object (its outline) is independent of colour, texture, size and rotation, so a detector has to learn
the outline.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

# Outlines are rendered this much larger and downsampled, for antialiasing.
_OVERSAMPLE = 4
# An object may hide at most this fraction of the visible part of another one.
_MAX_HIDDEN = 0.5
# Minimum difference, summed over R, G and B, between an object's mean colour and what it covers.
_MIN_CONTRAST = 120.0


@dataclass
class RenderedImage:
    """A rendered image and its ground truth.

    Attributes:
        image: uint8 (size, size, 3) RGB.
        boxes: int (n, 4) xyxy px of the visible part of each object.
        areas: int (n,) number of visible pixels.
        labels: int (n,) positions in `SHAPE_NAMES`.
    """

    image: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    labels: np.ndarray


def _rotate(points: np.ndarray, angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]])


def _disc(rng: np.random.Generator) -> list[np.ndarray]:
    return [_ellipse(1.0, rng.uniform(0.75, 1.0))]


def _ring(rng: np.random.Generator) -> list[np.ndarray]:
    return [_ellipse(1.0, 1.0), _ellipse(1.0, 1.0) * rng.uniform(0.5, 0.65)]


def _ellipse(width: float, height: float) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    return np.stack([np.cos(angles) * width, np.sin(angles) * height], axis=1)


def _square(rng: np.random.Generator) -> list[np.ndarray]:
    corners = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    return [_rotate(corners, rng.uniform(-0.25, 0.25))]


def _bar(rng: np.random.Generator) -> list[np.ndarray]:
    thickness = rng.uniform(0.25, 0.4)
    corners = np.array([[-1.0, -thickness], [1.0, -thickness], [1.0, thickness], [-1.0, thickness]])
    angle = np.pi / 2 if rng.uniform() < 0.5 else 0.0
    return [_rotate(corners, angle + rng.uniform(-0.15, 0.15))]


def _triangle(rng: np.random.Generator) -> list[np.ndarray]:
    corners = np.array([[0.0, -1.0], [1.0, 0.8], [-1.0, 0.8]]) * [rng.uniform(0.7, 1.1), 1.0]
    return [_rotate(corners, rng.uniform(-0.3, 0.3))]


def _star(rng: np.random.Generator) -> list[np.ndarray]:
    angles = np.arange(10) * np.pi / 5 - np.pi / 2
    radii = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
    points = np.stack([np.cos(angles) * radii, np.sin(angles) * radii], axis=1)
    return [_rotate(points, rng.uniform(-0.3, 0.3))]


def _cross(rng: np.random.Generator) -> list[np.ndarray]:
    arm = rng.uniform(0.24, 0.36)
    quarter = np.array([[arm, -1.0], [arm, -arm], [1.0, -arm]])
    points = np.concatenate([_rotate(quarter, quarter_turns * np.pi / 2) for quarter_turns in range(4)])
    return [_rotate(points, rng.uniform(-0.2, 0.2))]


# Each returns closed outlines in about [-1, 1]; a second outline is a hole.
_OUTLINES: dict[str, Callable[[np.random.Generator], list[np.ndarray]]] = {
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "bar": _bar,
}
SHAPE_NAMES = tuple(_OUTLINES)


def render_image(rng: np.random.Generator, size: int, max_objects: int = 6) -> RenderedImage:
    """Renders 1 to `max_objects` shapes of about size/10 to size/2 pixels on a background.

    A later shape may overlap earlier ones, but hides at most half of the visible part of each.
    """
    image = _texture(rng, size, _colour(rng), rng.uniform(15, 50))
    object_map = np.full((size, size), -1, np.int32)
    labels: list[int] = []
    for _ in range(int(rng.integers(1, max_objects + 1))):
        for _ in range(20):
            label = int(rng.integers(len(SHAPE_NAMES)))
            mask, left, top = _sample_shape(rng, label, size)
            if _leaves_others_visible(mask, object_map, left, top, len(labels)):
                _paint(rng, image, mask, left, top)
                _region(object_map, mask, left, top)[mask >= 0.5] = len(labels)
                labels.append(label)
                break
    boxes, areas = _boxes_and_areas(object_map, len(labels))
    return RenderedImage(image.clip(0, 255).astype(np.uint8), boxes, areas, np.array(labels))


def _sample_shape(rng: np.random.Generator, label: int, size: int) -> tuple[np.ndarray, int, int]:
    """Samples a shape: its mask (h, w) in [0, 1], and the left and top of its position."""
    # Log-uniform: each doubling of the size is equally likely.
    side = float(np.exp(rng.uniform(np.log(size / 10), np.log(size * 0.47))))
    outlines = _OUTLINES[SHAPE_NAMES[label]](rng)
    low, high = outlines[0].min(axis=0), outlines[0].max(axis=0)
    # Keep thin shapes thick enough to be visible.
    side = max(side, size / 28 * (high - low).max() / (high - low).min())
    scale = side / (high - low).max() * _OVERSAMPLE
    extent = np.ceil((high - low) * scale / _OVERSAMPLE).astype(int)
    fine = np.zeros((extent[1] * _OVERSAMPLE, extent[0] * _OVERSAMPLE), np.uint8)
    # With all outlines in one call, the even-odd rule keeps the hole of a ring open.
    cv2.fillPoly(fine, [np.round((outline - low) * scale).astype(np.int32) for outline in outlines], (255,))
    mask = cv2.resize(fine, tuple(extent.tolist()), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    left = int(rng.integers(0, size - mask.shape[1] + 1))
    top = int(rng.integers(0, size - mask.shape[0] + 1))
    return mask, left, top


def _region(array: np.ndarray, mask: np.ndarray, left: int, top: int) -> np.ndarray:
    return array[top : top + mask.shape[0], left : left + mask.shape[1]]


def _leaves_others_visible(mask: np.ndarray, object_map: np.ndarray, left: int, top: int, count: int) -> bool:
    """Whether the shape leaves enough of every other shape visible."""
    solid = mask >= 0.5
    before = np.bincount(object_map[object_map >= 0], minlength=count)
    hidden = _region(object_map, mask, left, top)[solid]
    lost = np.bincount(hidden[hidden >= 0], minlength=count)
    return bool(solid.any() and (lost <= _MAX_HIDDEN * before).all())


def _paint(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray, left: int, top: int) -> None:
    """Fills the shape with a texture that contrasts with what it covers."""
    target = _region(image, mask, left, top)
    background = target[mask >= 0.5].mean(axis=0)
    colour = _colour(rng)
    for _ in range(50):
        if np.abs(colour - background).sum() >= _MIN_CONTRAST:
            break
        colour = _colour(rng)
    side = max(mask.shape)
    paint = _texture(rng, side, colour, rng.uniform(0, 30))[: mask.shape[0], : mask.shape[1]]
    target += (paint - target) * mask[..., None]


def _boxes_and_areas(object_map: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (n, 4) xyxy and areas (n,) of the pixels each object owns."""
    boxes = np.zeros((count, 4), np.int64)
    areas = np.zeros(count, np.int64)
    for number in range(count):
        rows, columns = np.nonzero(object_map == number)
        boxes[number] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        areas[number] = len(rows)
    return boxes, areas


def _colour(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(20, 235, 3).astype(np.float32)


def _texture(rng: np.random.Generator, size: int, colour: np.ndarray, strength: float) -> np.ndarray:
    """float32 (size, size, 3): a colour modulated by a random pattern in [-1, 1], plus a little noise."""
    pattern = _PATTERNS[int(rng.integers(len(_PATTERNS)))](rng, size)
    # The pattern affects each channel differently, so that it changes not only the brightness.
    tint = rng.uniform(0.4, 1.0, 3).astype(np.float32) * rng.choice([-1, 1])
    noise = rng.normal(0, 4, (size, size, 3)).astype(np.float32)
    return colour + strength * pattern[..., None].astype(np.float32) * tint + noise


def _plain(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.zeros((size, size))


def _gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    return 2 * _ramp(rng, size) / max(size, 1)


def _ramp(rng: np.random.Generator, size: int) -> np.ndarray:
    """Signed distance in px from the centre along a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    axis = np.arange(size) - size / 2
    return np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None]


def _stripes(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.sin(_ramp(rng, size) * 2 * np.pi / rng.uniform(5, 30))


def _checks(rng: np.random.Generator, size: int) -> np.ndarray:
    side = rng.uniform(6, 32)
    shift = rng.uniform(0, side, 2)
    axis = np.arange(size)
    return np.sign(
        np.sin((axis[None, :] + shift[0]) * np.pi / side) * np.sin((axis[:, None] + shift[1]) * np.pi / side)
    )


def _clouds(rng: np.random.Generator, size: int) -> np.ndarray:
    """Smooth noise of several scales."""
    total = np.zeros((size, size), np.float32)
    for cells in (3, 6, 12, 24):
        coarse = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        total += cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC) * (3 / cells) ** 0.7
    return total / max(float(np.abs(total).max()), 1e-6)


def _speckle(rng: np.random.Generator, size: int) -> np.ndarray:
    spots = rng.uniform(-1, 1, (size, size)).astype(np.float32)
    blurred = cv2.GaussianBlur(spots, (0, 0), float(rng.uniform(0.8, 2.5)))
    return blurred / max(float(np.abs(blurred).max()), 1e-6)


_PATTERNS: tuple[Callable[[np.random.Generator, int], np.ndarray], ...] = (
    _plain,
    _gradient,
    _stripes,
    _checks,
    _clouds,
    _speckle,
)
