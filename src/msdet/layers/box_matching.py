"""Graph operations for assigning boxes to anchors: batched IoU, conflicts between boxes, masked scatter."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import mint, ops

_MIN_AREA = 1e-9  # px^2


@ops.constexpr
def constant_arange(count: int) -> ms.Tensor:
    """int32 (count,): 0 .. count - 1, as a constant of the graph."""
    return ms.Tensor(np.arange(count, dtype=np.int32))


def anchor_edges(anchors: Sequence) -> tuple:
    """Edges and area of anchors, as `batched_iou` takes them.

    Args:
        anchors: centre x, centre y, width, height in px, each float32 (A,), or (N, 1, A) if each image has its own.

    Returns:
        left, top, right, bottom in px, and the area in px^2, each of the shape of the input.
    """
    x, y, w, h = anchors
    # The union of an anchor and a box without area must not be 0.
    return x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h, w * h + _MIN_AREA


def batched_iou(edges: tuple, boxes: ms.Tensor, labels: ms.Tensor) -> ms.Tensor:
    """IoU of every box with every anchor.

    Inputs are broadcast to the full shape first, and nothing is divided: on CPU, operators that broadcast implicitly,
    and divisions, keep an index of 16 bytes per element until the process ends (measured in MindSpore 2.10).

    Args:
        edges: of the A anchors, see `anchor_edges`.
        boxes: float32 (N, K, 4) xyxy in px.
        labels: int32 (N, K), -1 for padding.

    Returns:
        float32 (N, K, A), -1 for padding.
    """
    shape = (*labels.shape, edges[0].shape[-1])
    left, top, right, bottom, area = [ops.broadcast_to(edge, shape) for edge in edges]
    x1, y1, x2, y2 = [ops.broadcast_to(boxes[..., i : i + 1], shape) for i in range(4)]
    width = ops.relu(ops.minimum(right, x2) - ops.maximum(left, x1))
    height = ops.relu(ops.minimum(bottom, y2) - ops.maximum(top, y1))
    intersection = width * height
    iou = intersection * ops.reciprocal(area + (x2 - x1) * (y2 - y1) - intersection)
    is_box = ops.broadcast_to(ops.cast(ops.expand_dims(labels, 2) >= 0, ms.float32), shape)
    return iou * is_box + (is_box - 1)


def winning_slots(place: ms.Tensor, positive: ms.Tensor) -> ms.Tensor:
    """Resolves conflicts between boxes assigned to the same place: the last one wins.

    Args:
        place: int32 (N, M, S), an index that identifies anchor and cell. Only slots with the same s are compared: with
            S = 9 these belong to one anchor.
        positive: bool (N, M, S).

    Returns:
        bool (N, M, S): positive slots that no later box overwrites.
    """
    order = ops.reshape(ops.arange(place.shape[1]), (-1, 1))
    later = ops.expand_dims(order, 0) > ops.expand_dims(order, 1)
    same_place = ops.logical_and(ops.expand_dims(place, 2) == ops.expand_dims(place, 1), ops.expand_dims(positive, 1))
    overwritten = ops.any(ops.logical_and(same_place, later), 2)
    return ops.logical_and(positive, ops.logical_not(overwritten))


def scatter_masked(like: ms.Tensor, place: ms.Tensor, values: ms.Tensor, mask: ms.Tensor) -> ms.Tensor:
    """Scatters the values selected by a mask into zeros of the shape of `like`.

    The places of selected values must be distinct. All other values are written to an extra last column, which is cut
    off: with several values at one place the result is undefined, and reductions are either not supported on Ascend
    (`ops.tensor_scatter_elements`: "reduction only support set to none") or deprecated (`ops.tensor_scatter_max`, from
    2.9).

    Args:
        like: (N, K), of the type of the values.
        place: int32 (N, M), 0 .. K - 1.
        values: (N, M).
        mask: bool (N, M), True for the values to write.

    Returns:
        (N, K).
    """
    count = like.shape[1]
    target = ops.concat((ops.zeros_like(like), ops.zeros_like(like[:, :1])), 1)
    return mint.scatter(target, 1, ops.where(mask, place, count), values)[:, :count]
