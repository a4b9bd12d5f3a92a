"""Draws labelled boxes and captions on images."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from msdet.errors import UserError
from msdet.files import atomic_path
from msdet.ops.fonts import draw_text, text_size, warn_once
from msdet.text import one_line, printable

# Font sizes in px of box labels and captions in an image of the reference size.
_LABEL_FONT_SIZE, _CAPTION_FONT_SIZE = 12.0, 15.0
_GOLDEN_RATIO = 0.618034
_REFERENCE_SIDE = 640  # px, longer side of the reference size
_MAX_JPEG_SIDE = 65_500  # px, limit of libjpeg
_MAX_CAPTION = 200  # characters
_CAPTION_HEIGHT = 24  # px, of a caption bar in an image of the reference size


def class_colour(label: int) -> tuple[int, int, int]:
    """RGB colour of a class: constant for a label, and distinct from those of neighbouring labels."""
    hue = (label * _GOLDEN_RATIO) % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, (0.9, 0.65)[label // 5 % 2], (1.0, 0.85)[label // 10 % 2])
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    scores: np.ndarray | None = None,
) -> np.ndarray:
    """A copy of the image with boxes, class names and scores; higher scores are drawn on top.

    An image whose longer side is far below 640 px is enlarged by an integer factor, so that labels are legible.

    Args:
        image: (H,W,3) uint8 RGB.
        boxes: (n,4) xyxy in pixels of the image; parts outside are clipped.
        labels: (n,) integers; a label without a name is shown as a number.
        class_names: name of each label, in any script; see `fonts.py`.
        scores: (n,) 0..1, shown with two decimals; None for ground truth.
    """
    warn_once(tuple(class_names))
    factor = max(1, round(_REFERENCE_SIDE / max(image.shape[:2])))
    canvas = np.ascontiguousarray(image).repeat(factor, axis=0).repeat(factor, axis=1)
    height, width = canvas.shape[:2]
    corners = np.asarray(boxes, np.float64).reshape(-1, 4) * factor
    corners = np.clip(corners, 0, [width - 1, height - 1] * 2).round().astype(int)
    order = list(range(len(corners)) if scores is None else np.argsort(scores, kind="stable"))
    scale = _scale(canvas)
    for i in order:
        x1, y1, x2, y2 = corners[i].tolist()
        cv2.rectangle(canvas, (x1, y1), (x2, y2), class_colour(int(labels[i])), max(1, round(2 * scale)), cv2.LINE_AA)
    for i in order:  # after all boxes, so that no line covers a label
        label = int(labels[i])
        name = class_names[label] if 0 <= label < len(class_names) else str(label)
        text = name if scores is None else f"{name} {scores[i]:.2f}"
        corner = int(corners[i, 0]), int(corners[i, 1])
        _draw_label(canvas, *corner, one_line(printable(text)), class_colour(label), scale)
    return canvas


def _scale(canvas: np.ndarray) -> float:
    """Scale of lines and text relative to the reference size; at least 0.75, so that text is legible.

    In a very elongated image it depends on the area: scaled by the longer side, text would be higher than the image.
    """
    height, width = canvas.shape[:2]
    return max(0.75, min(max(height, width), 2 * math.sqrt(height * width)) / _REFERENCE_SIDE)


def _draw_label(canvas: np.ndarray, x: int, y: int, text: str, colour: tuple[int, int, int], scale: float) -> None:
    """Text on a coloured background above the corner (x, y), or below it if there is no space above."""
    height, width = canvas.shape[:2]
    size, pad = _LABEL_FONT_SIZE * scale, max(2, round(2 * scale))
    text_width, above, below = text_size(text, size)
    label_height = above + below
    left = max(0, min(x, width - text_width - 2 * pad))
    top = max(0, min(y - label_height if y >= label_height else y, height - label_height))
    cv2.rectangle(canvas, (left, top), (left + text_width + 2 * pad, top + label_height), colour, cv2.FILLED)
    luminance = np.dot(colour, (0.299, 0.587, 0.114))  # ITU-R BT.601
    draw_text(canvas, left + pad, top + above, text, size, (0, 0, 0) if luminance > 130 else (255, 255, 255))


def _draw_caption(canvas: np.ndarray, bottom: int, text: str, scale: float) -> None:
    """White text in a caption bar whose lower edge is at `bottom`."""
    position = round(6 * scale), bottom - round(8 * scale)
    draw_text(canvas, *position, one_line(printable(text), _MAX_CAPTION), _CAPTION_FONT_SIZE * scale, (255, 255, 255))


def add_captions(image: np.ndarray, lines: Sequence[str]) -> np.ndarray:
    """A copy of the image with lines of text on a bar below it.

    Args:
        image: (H,W,3) uint8 RGB; enlarged as in `draw_boxes`.
        lines: from top to bottom.
    """
    factor = max(1, round(_REFERENCE_SIDE / max(image.shape[:2])))
    canvas = np.ascontiguousarray(image).repeat(factor, axis=0).repeat(factor, axis=1)
    scale = _scale(canvas)
    height = canvas.shape[0]
    line_height = round(_CAPTION_HEIGHT * scale)
    canvas = cv2.copyMakeBorder(canvas, 0, line_height * len(lines), 0, 0, cv2.BORDER_CONSTANT, value=(32, 32, 32))
    for row, text in enumerate(lines, 1):
        _draw_caption(canvas, height + row * line_height, text, scale)
    return canvas


def side_by_side(
    left: np.ndarray, right: np.ndarray, captions: tuple[str, str] = ("ground truth", "detections")
) -> np.ndarray:
    """Two images of the same size (H,W,3) next to each other, with captions above."""
    scale = _scale(left)
    bar = round(_CAPTION_HEIGHT * scale)
    columns = []
    for image, caption in zip((left, right), captions, strict=True):
        column = cv2.copyMakeBorder(image, bar, 0, 0, 0, cv2.BORDER_CONSTANT, value=(32, 32, 32))
        _draw_caption(column, bar, caption, scale)
        columns.append(column)
    gap = np.full((columns[0].shape[0], max(2, round(4 * scale)), 3), 32, np.uint8)
    return np.concatenate([columns[0], gap, columns[1]], axis=1)


def save_image(path: Path | str, image: np.ndarray) -> None:
    """Writes an RGB image (H,W,3) uint8 atomically as PNG or JPEG, depending on the suffix.

    JPEG allows at most 65,500 px per side: a larger image is downscaled.

    Raises:
        UserError: the suffix is not .png, .jpg or .jpeg, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UserError(f"{path}: images are saved as .png, .jpg or .jpeg")
    if path.suffix.lower() != ".png" and max(image.shape[:2]) > _MAX_JPEG_SIDE:
        scale = _MAX_JPEG_SIDE / max(image.shape[:2])
        height, width = (max(1, int(side * scale)) for side in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(path.suffix.lower(), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded.tobytes())
