"""Assignment of ground-truth boxes to cells and anchors of a YOLO, in the graph.

Every ground truth has S *slots*: places (anchor, cell) that it can be assigned to. YOLOv3 assigns each box to the best
of all nine anchors: one slot. YOLOv4 assigns it to further anchors too: there is a slot for each of the nine, and those
that fit well enough are positive. If two boxes share a place, the later one wins.

Places are indices into the three concatenated maps, (N, 3, 5 + C, h * w summed over strides 32, 16, 8).
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import ops

from msdet.models.yolo.decoder import ANCHORS_PER_SCALE, STRIDES

NUM_ANCHORS = ANCHORS_PER_SCALE * len(STRIDES)

# For each of the nine anchors, smallest first: the stride of its map, and its index within the map.
ANCHOR_STRIDES = np.repeat(STRIDES[::-1], ANCHORS_PER_SCALE)
ANCHOR_INDICES = np.tile(np.arange(ANCHORS_PER_SCALE), len(STRIDES))

# Offset of the map of an anchor in the concatenated maps, in units of the number of cells at stride 32: a map of half
# the stride has four times the cells.
_CELLS = (STRIDES[0] // np.array(STRIDES)) ** 2
ANCHOR_FIRST_CELLS = np.repeat((np.cumsum(_CELLS) - _CELLS)[::-1], ANCHORS_PER_SCALE)


def box_size(boxes: ms.Tensor) -> ms.Tensor:
    """xyxy (..., 4) -> (..., 2) width and height."""
    return boxes[..., 2:] - boxes[..., :2]


def is_object(boxes: ms.Tensor, labels: ms.Tensor) -> ms.Tensor:
    """bool (N, M): not padding (label >= 0) and with an area; boxes without area do not take part in training."""
    return ops.logical_and(labels >= 0, ops.all(box_size(boxes) > 0, -1))


def anchor_dimensions(anchors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(A, 2) widths and heights in pixels -> widths, heights and areas, each float32 (A,), for `anchor_iou`."""
    width, height = anchors[:, 0].astype(np.float32), anchors[:, 1].astype(np.float32)
    return width, height, width * height


def anchor_iou(size: ms.Tensor, anchors: tuple) -> ms.Tensor:
    """IoU of boxes and anchors with a common centre, that is of width and height alone.

    Args:
        size: (N, M, 2), widths and heights of the boxes in pixels, positive.
        anchors: see `anchor_dimensions`.

    Returns:
        (N, M, A) in 0..1.
    """
    width, height = size[..., :1], size[..., 1:]
    anchor_width, anchor_height, area = anchors
    intersection = ops.minimum(width, anchor_width) * ops.minimum(height, anchor_height)
    return intersection / (width * height + area - intersection)


def choose_anchors(iou: ms.Tensor, valid: ms.Tensor, extra_anchor_iou: float | None) -> tuple:
    """Chooses the anchors of the slots of each ground truth.

    Args:
        iou: (N, M, 9) with all anchors.
        valid: bool (N, M), see `is_object`.
        extra_anchor_iou: besides its best anchor, a box is assigned to every anchor with a larger IoU than this; None =
            only the best.

    Returns:
        anchor: int32 (N, M, S), 0..8; S is 9 with `extra_anchor_iou`, else 1.
        positive: bool (N, M, S).
    """
    best = ops.expand_dims(ops.cast(ops.argmax(iou, -1), ms.int32), 2)
    valid = ops.expand_dims(valid, 2)
    if extra_anchor_iou is None:
        return best, valid
    anchor = ops.broadcast_to(ops.cast(ops.arange(NUM_ANCHORS), ms.int32), iou.shape)
    return anchor, ops.logical_and(valid, ops.logical_or(iou > extra_anchor_iou, anchor == best))


def cell_corners(boxes: ms.Tensor, stride: ms.Tensor, columns: ms.Tensor, rows: ms.Tensor) -> ms.Tensor:
    """The cell that contains the centre of each box.

    Args:
        boxes: (N, M, 4) xyxy in pixels.
        stride, columns, rows: (N, M, S), of the map of each slot; in the type of the boxes.

    Returns:
        (N, M, S, 2): column and row, integers in the type of the boxes. A centre on the right or lower border of the
        image belongs to the last cell.
    """
    centre = ops.expand_dims((boxes[..., :2] + boxes[..., 2:]) / 2, 2)
    cell = ops.floor(centre / ops.expand_dims(stride, 3))
    last = ops.stack((columns, rows), -1) - 1
    return ops.relu(ops.minimum(cell, last))
