"""Overlaps of boxes with anchors, and places that several boxes want, for a whole batch, in the graph."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import mint, ops

_LEAST_AREA = 1e-9  # px^2


@ops.constexpr
def count_up(count: int) -> ms.Tensor:
    """0, 1, ... count - 1 as int32, a constant of the graph."""
    return ms.Tensor(np.arange(count, dtype=np.int32))


def sides_of(anchors: Sequence) -> tuple:
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


def winners(place: ms.Tensor, positive: ms.Tensor) -> ms.Tensor:
    """bool (N, M, S): the positive slots that no later box overwrites.

    Args:
        place: int32 (N, M, S), a number for each pair of anchor and cell. Only slots with the same s are compared: with
            S = 9 they are those of one anchor.
        positive: bool (N, M, S).
    """
    order = ops.reshape(ops.arange(place.shape[1]), (-1, 1))
    later = ops.expand_dims(order, 0) > ops.expand_dims(order, 1)
    meets = ops.logical_and(ops.expand_dims(place, 2) == ops.expand_dims(place, 1), ops.expand_dims(positive, 1))
    overwritten = ops.any(ops.logical_and(meets, later), 2)
    return ops.logical_and(positive, ops.logical_not(overwritten))


def put_at(like: ms.Tensor, place: ms.Tensor, values: ms.Tensor, is_put: ms.Tensor) -> ms.Tensor:
    """Scatters: zeros in the shape (N, K) of `like`, with some values at their places.

    Args:
        like: (N, K), of the type of the values.
        place: int32 (N, M), 0 .. K - 1. values: (N, M).
        is_put: bool (N, M); the others of `values` go nowhere.

    Those that are put have different places. All others are sent behind the last place, so that none overwrites them:
    which of several values at one place stays is not defined, and adding them up or taking the greatest is nothing that
    MindSpore supports on Ascend (`ops.tensor_scatter_elements`: "reduction only support set to none") or keeps
    (`ops.tensor_scatter_max`: deprecated from 2.9).
    """
    count = like.shape[1]
    room = ops.concat((ops.zeros_like(like), ops.zeros_like(like[:, :1])), 1)
    return mint.scatter(room, 1, ops.where(is_put, place, count), values)[:, :count]
