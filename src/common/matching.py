"""Overlaps of boxes with anchors, for a whole batch, in the graph."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import ops

_LEAST_AREA = 1e-9  # px^2


@ops.constexpr
def count_up(count: int) -> ms.Tensor:
    """0, 1, ... count - 1 as int32, a constant of the graph."""
    return ms.Tensor(np.arange(count, dtype=np.int32))


def sides_of(anchors: tuple) -> tuple:
    """What `overlaps` takes of anchors.

    Args:
        anchors: centre x, centre y, width, height in px, each float32 (A,), or (N, 1, A) if each image has its own.

    Returns:
        left, top, right, bottom in px, and the area in px^2, each of the same shape.
    """
    x, y, w, h = anchors
    # An anchor and a box of no area have no union to divide by.
    return x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h, w * h + _LEAST_AREA


def overlaps(sides: tuple, boxes: ms.Tensor, labels: ms.Tensor) -> ms.Tensor:
    """IoU of boxes with anchors.

    Everything is spread to the full shape before it is combined, and nothing is divided: on CPU an operator that
    broadcasts by itself, and any division, keeps an index of 16 bytes an element for ever (measured in MindSpore 2.10).

    Args:
        sides: of the A anchors, see `sides_of`.
        boxes: float32 (N, K, 4) xyxy in px.
        labels: int32 (N, K), -1 for padding.

    Returns:
        float32 (N, K, A), -1 for padding.
    """
    shape = (*labels.shape, sides[0].shape[-1])
    left, top, right, bottom, area = [ops.broadcast_to(side, shape) for side in sides]
    x1, y1, x2, y2 = [ops.broadcast_to(boxes[..., i : i + 1], shape) for i in range(4)]
    width = ops.relu(ops.minimum(right, x2) - ops.maximum(left, x1))
    height = ops.relu(ops.minimum(bottom, y2) - ops.maximum(top, y1))
    shared = width * height
    overlap = shared * ops.reciprocal(area + (x2 - x1) * (y2 - y1) - shared)
    is_box = ops.broadcast_to(ops.cast(ops.expand_dims(labels, 2) >= 0, ms.float32), shape)
    return overlap * is_box + (is_box - 1)
