"""Decodes the raw maps of a YOLO into boxes in pixels and scores.

A raw map (N, 3 * (5 + C), h, w) holds (tx, ty, tw, th, objectness, C classes) for each cell and each of three anchors,
channels anchor-major. The three maps are ordered by strides 32, 16, 8. Only arithmetic, reshape, transpose and concat
are used, so that the decoder exports and accepts heights and widths that are unknown at compile time.
"""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from msdet.errors import UsageError

STRIDES = (32, 16, 8)
ANCHORS_PER_SCALE = 3

# exp(20) times any anchor is far outside every image, and its square is still finite in float32.
_MAX_LOG_SIZE = 20.0


def anchors_by_map(anchors: Sequence[Sequence[float]]) -> np.ndarray:
    """Groups anchors by raw map.

    Args:
        anchors: nine pairs (width, height) in pixels of the network input, smallest first: strides 8, 16, 32.

    Returns:
        float32 (3, 3, 2): map (strides 32, 16, 8), anchor, (width, height).

    Raises:
        UsageError: the anchors are not nine pairs of positive numbers.
    """
    try:
        array = np.asarray(anchors, np.float32)
    except (TypeError, ValueError):
        array = np.empty(0, np.float32)
    if array.shape != (9, 2) or not np.isfinite(array).all() or not (array > 0).all():
        raise UsageError(f"anchors: nine pairs (width, height) of positive pixels are needed, got {anchors}")
    return array.reshape(3, ANCHORS_PER_SCALE, 2)[::-1].copy()


def split_map(raw: ms.Tensor, num_classes: int) -> ms.Tensor:
    """Raw map (N, 3 * (5 + C), h, w) -> (N, 3, 5 + C, h * w), at least in float32."""
    if raw.dtype == ms.float16 or raw.dtype == ms.bfloat16:
        raw = ops.cast(raw, ms.float32)
    return ops.reshape(raw, (raw.shape[0], ANCHORS_PER_SCALE, 5 + num_classes, -1))


def decode_corners(attributes: ms.Tensor, columns: int, anchors: ms.Tensor, stride: int, scale: float) -> tuple:
    """Boxes of one map: YOLOv3 (Redmon & Farhadi, 2018), section 2.1; `scale` as in YOLOv4 (Bochkovskiy et al., 2020).

    Args:
        attributes: (N, 3, 5 + C, h * w) as `split_map` gives them.
        columns: w, the width of the map in cells.
        anchors: (3, 2) widths and heights in pixels.
        stride: pixels per cell.
        scale: >= 1, stretches the sigmoid of the centre so that it can reach the edge of its cell.

    Returns:
        x1, y1, x2, y2, each (N, 3, h * w), in pixels of the network input; not clipped to the image.
    """
    # Counted per axis: float16, which a chip may use instead of float32, is exact only up to 2,048, and there are more
    # cells than that.
    across = ops.cast(ops.arange(columns), attributes.dtype)
    down = ops.cast(ops.reshape(ops.arange(attributes.shape[3] // columns), (-1, 1)), attributes.dtype)
    column, row = ops.reshape(across + 0 * down, (-1,)), ops.reshape(down + 0 * across, (-1,))
    anchors = ops.cast(anchors, attributes.dtype)
    shifts = [attributes[:, :, i] for i in range(4)]
    return box_corners(shifts, (column, row), (anchors[:, :1], anchors[:, 1:]), stride, scale)


def box_corners(
    shifts: Sequence, cell: Sequence, anchor: Sequence, stride: int | ms.Tensor, scale: float | ms.Tensor
) -> tuple:
    """Boxes of raw predictions; the arguments broadcast against each other.

    Args:
        shifts: raw tx, ty, tw, th.
        cell: column and row.
        anchor: width and height in pixels.
        stride: pixels per cell.
        scale: see `decode_corners`.

    Returns:
        x1, y1, x2, y2 in pixels of the network input; not clipped to the image.
    """
    centre_x, centre_y = cell[0] + _stretched(shifts[0], scale), cell[1] + _stretched(shifts[1], scale)
    centre_x, centre_y = centre_x * stride, centre_y * stride
    half_width = ops.exp(ops.minimum(shifts[2], _MAX_LOG_SIZE)) * (anchor[0] / 2)
    half_height = ops.exp(ops.minimum(shifts[3], _MAX_LOG_SIZE)) * (anchor[1] / 2)
    return centre_x - half_width, centre_y - half_height, centre_x + half_width, centre_y + half_height


def _stretched(shift: ms.Tensor, scale: float | ms.Tensor) -> ms.Tensor:
    """Offset of a centre within its cell, in cells."""
    if isinstance(scale, float) and scale == 1:
        return ops.sigmoid(shift)
    return scale * ops.sigmoid(shift) - (scale - 1) / 2


class YoloDecoder(nn.Cell):
    """Raw maps -> boxes (N, K, 4) xyxy in pixels of the network input, and scores (N, K, C) in 0..1.

    A score is sigmoid(objectness) * sigmoid(class). K = 3 * (sum of h * w over the maps). Rows are ordered by map
    (strides 32, 16, 8), anchor (smallest first), row and column of the grid. Boxes are not clipped to the image.

    In graph mode call it from another cell: a tuple of tensors passed from Python is compiled as a constant, again for
    each call.

    Args:
        anchors: nine pairs (width, height) in pixels, smallest first.
        num_classes: C, object classes.
        scale_x_y: stretch of the sigmoid of the centre for strides 8, 16, 32 (the order of the anchors); 1 = none.
        min_class_probability: classes with a probability up to this score 0; for boxes with several classes.

    Raises:
        UsageError: the anchors are not nine pairs, or scale_x_y is not three numbers >= 1.
    """

    def __init__(
        self,
        anchors: Sequence[Sequence[float]],
        num_classes: int,
        scale_x_y: Sequence[float] = (1.0, 1.0, 1.0),
        min_class_probability: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.anchors = tuple(ms.Tensor(group) for group in anchors_by_map(anchors))
        self.scales = scales_by_map(scale_x_y)
        self.min_class_probability = min_class_probability

    def construct(self, raw_maps: tuple, image_size: ms.Tensor | tuple | None = None) -> tuple:
        """Decodes the three maps.

        Args:
            raw_maps: three maps (N, 3 * (5 + C), h, w), strides 32, 16, 8.
            image_size: (height, width); not used, the strides define the pixels.
        """
        boxes: tuple = ()
        scores: tuple = ()
        for i in range(len(STRIDES)):
            attributes = split_map(raw_maps[i], self.num_classes)
            corners = decode_corners(attributes, raw_maps[i].shape[3], self.anchors[i], STRIDES[i], self.scales[i])
            batch = attributes.shape[0]
            boxes += (ops.reshape(ops.stack(corners, -1), (batch, -1, 4)),)
            probability = ops.sigmoid(attributes[:, :, 5:])
            if self.min_class_probability > 0:
                probability = probability * ops.cast(probability > self.min_class_probability, probability.dtype)
            score = ops.sigmoid(attributes[:, :, 4:5]) * probability
            scores += (ops.reshape(ops.transpose(score, (0, 1, 3, 2)), (batch, -1, self.num_classes)),)
        return ops.concat(boxes, 1), ops.concat(scores, 1)


def scales_by_map(scale_x_y: Sequence[float]) -> tuple[float, ...]:
    """Reorders the three numbers for strides 8, 16, 32 to the order of the raw maps.

    Raises:
        UsageError: not three numbers >= 1.
    """
    scales = tuple(float(scale) for scale in scale_x_y)
    if len(scales) != len(STRIDES) or not all(1 <= scale < float("inf") for scale in scales):
        raise UsageError(f"scale_x_y: three numbers >= 1 are needed (strides 8, 16, 32), got {scale_x_y}")
    return scales[::-1]
