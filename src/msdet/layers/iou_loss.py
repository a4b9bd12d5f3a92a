"""IoU, GIoU, DIoU and CIoU of pairs of boxes, differentiable and in the graph; the loss is one minus them.

GIoU, DIoU and CIoU are the IoU minus a penalty, so that disjoint boxes have a gradient too. Width and height of the
intersection are clamped at 0 separately: the product of two negative values would count as an overlap.
"""

from __future__ import annotations

import math

import mindspore as ms
from mindspore import ops

# Plain IoU is not among them: disjoint boxes would have no gradient.
IOU_LOSSES = ("ciou", "diou", "giou")

# Avoids division by zero; areas and squared diagonals of real boxes are far larger.
_EPS = 1e-7


def paired_iou(first: ms.Tensor, second: ms.Tensor, kind: str = "iou") -> ms.Tensor:
    """IoU of each box with its counterpart, or GIoU, DIoU, CIoU.

    - giou: minus the share of the enclosing box that neither covers (Rezatofighi et al., 2019, algorithm 1); -1..1.
    - diou: minus the squared distance of the centres over the squared diagonal of the enclosing box (Zheng et al.,
      2020, equation 7); -1..1.
    - ciou: as diou, minus alpha * v with v = 4 / pi^2 * (difference of atan(w / h))^2 and alpha = v / (1 - IoU + v)
      (Zheng et al., 2020, equations 8 to 11); alpha is a weight and has no gradient; above -2.

    Args:
        first, second: (..., 4) xyxy, of equal shape and floating type. A box without area, or with x2 < x1 or y2 < y1,
            has the area 0; two of these have an IoU of 0, and all gradients stay finite.
        kind: iou, or one of `IOU_LOSSES`.

    Returns:
        (...).
    """
    size1, size2 = ops.relu(first[..., 2:] - first[..., :2]), ops.relu(second[..., 2:] - second[..., :2])
    common = ops.relu(ops.minimum(first[..., 2:], second[..., 2:]) - ops.maximum(first[..., :2], second[..., :2]))
    intersection = common[..., 0] * common[..., 1]
    union = size1[..., 0] * size1[..., 1] + size2[..., 0] * size2[..., 1] - intersection
    iou = intersection / (union + _EPS)
    if kind == "iou":
        return iou
    enclosing = ops.maximum(first[..., 2:], second[..., 2:]) - ops.minimum(first[..., :2], second[..., :2])
    if kind == "giou":
        area = enclosing[..., 0] * enclosing[..., 1]
        return iou - (area - union) / (area + _EPS)
    offset = (first[..., :2] + first[..., 2:] - second[..., :2] - second[..., 2:]) / 2
    diagonal = ops.square(enclosing[..., 0]) + ops.square(enclosing[..., 1])
    distance = (ops.square(offset[..., 0]) + ops.square(offset[..., 1])) / (diagonal + _EPS)
    if kind == "diou":
        return iou - distance
    angle = ops.atan(size1[..., 0] / (size1[..., 1] + _EPS)) - ops.atan(size2[..., 0] / (size2[..., 1] + _EPS))
    v = 4 / math.pi**2 * ops.square(angle)
    alpha = ops.stop_gradient(v / (1 - iou + v + _EPS))
    return iou - distance - alpha * v
