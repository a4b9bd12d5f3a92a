"""IoU of pairs of boxes and its generalisations, in the graph and with gradients: a loss is one minus them.

Every kind is the IoU minus a penalty, so that boxes which do not meet are drawn together too. Sides of the
intersection are cut at 0 one by one: the product of two negative ones would count as an overlap.
"""

from __future__ import annotations

import math

import mindspore as ms
from mindspore import ops

# Plain IoU is no loss: boxes that do not meet would have no gradient.
IOU_LOSSES = ("ciou", "diou", "giou")

# Against division by zero; areas and squared diagonals of real boxes are far above it.
_TINY = 1e-7


def paired_iou(first: ms.Tensor, second: ms.Tensor, kind: str = "iou") -> ms.Tensor:
    """IoU of each box with its counterpart, or GIoU, DIoU, CIoU.

    - giou: minus the share of the enclosing box that neither covers (Rezatofighi et al., 2019, algorithm 1); -1..1.
    - diou: minus the squared distance of the centres over the squared diagonal of the enclosing box (Zheng et al.,
      2020, equation 7); -1..1.
    - ciou: as diou, minus alpha * v with v = 4 / pi^2 * (difference of atan(w / h))^2 and alpha = v / (1 - IoU + v)
      (Zheng et al., 2020, equations 8 to 11); alpha is a weight and has no gradient; above -2.

    Args:
        first, second: (..., 4) xyxy of one shape and floating type. A box without area, or turned inside out, has the
            area 0; two of them have the IoU 0, and all gradients stay finite.
        kind: iou, or one of `IOU_LOSSES`.

    Returns:
        (...).
    """
    size1, size2 = ops.relu(first[..., 2:] - first[..., :2]), ops.relu(second[..., 2:] - second[..., :2])
    shared = ops.relu(ops.minimum(first[..., 2:], second[..., 2:]) - ops.maximum(first[..., :2], second[..., :2]))
    intersection = shared[..., 0] * shared[..., 1]
    union = size1[..., 0] * size1[..., 1] + size2[..., 0] * size2[..., 1] - intersection
    iou = intersection / (union + _TINY)
    if kind == "iou":
        return iou
    around = ops.maximum(first[..., 2:], second[..., 2:]) - ops.minimum(first[..., :2], second[..., :2])
    if kind == "giou":
        area = around[..., 0] * around[..., 1]
        return iou - (area - union) / (area + _TINY)
    offset = (first[..., :2] + first[..., 2:] - second[..., :2] - second[..., 2:]) / 2
    diagonal = ops.square(around[..., 0]) + ops.square(around[..., 1])
    distance = (ops.square(offset[..., 0]) + ops.square(offset[..., 1])) / (diagonal + _TINY)
    if kind == "diou":
        return iou - distance
    turn = ops.atan(size1[..., 0] / (size1[..., 1] + _TINY)) - ops.atan(size2[..., 0] / (size2[..., 1] + _TINY))
    shape = 4 / math.pi**2 * ops.square(turn)
    alpha = ops.stop_gradient(shape / (1 - iou + shape + _TINY))
    return iou - distance - alpha * shape
