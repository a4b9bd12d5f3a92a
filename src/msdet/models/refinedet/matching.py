"""Assignment of ground truths to the anchors of RefineDet, and selection of hard negatives, in the graph."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import nn, ops

from msdet.layers.box_matching import anchor_edges, batched_iou, constant_arange, scatter_masked, winning_slots

# Added to the ratio of the sides before the logarithm, as in the port of luuuyi; the original does not.
_LOG_EPS = 1e-5


class Matcher(nn.Cell):
    """Matches every anchor to its best box if the IoU is sufficient, and every box to its best anchor.

    Liu et al., SSD, 2016, section 2.2. The IoU is computed for a few boxes at a time to avoid a tensor (N, M, P).

    Args:
        threshold: minimum IoU of a match.
    """

    _BOXES_AT_A_TIME = 32

    def __init__(self, threshold: float = 0.5) -> None:
        super().__init__()
        self.threshold = threshold

    def construct(self, anchors: tuple, boxes: ms.Tensor, labels: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        """Matches.

        Args:
            anchors: centre x, centre y, width, height, each (N, P).
            boxes: float32 (N, M, 4) xyxy.
            labels: int32 (N, M), -1 for padding.

        Returns:
            is_matched: bool (N, P).
            box: (N, P, 4), the matched box; an arbitrary one for unmatched anchors.
            label: (N, P), of that box.

            If two boxes share their best anchor, the later one is matched. None of them has a gradient.
        """
        boxes = ops.stop_gradient(boxes)
        edges = anchor_edges([ops.expand_dims(ops.stop_gradient(column), 1) for column in anchors])
        batch, count = labels.shape
        size = edges[0].shape[2]
        highest = ops.zeros((batch, size), ms.float32) - 1
        matched = ops.zeros((batch, size), ms.int32)
        best_anchors: tuple = ()
        best_ious: tuple = ()
        for first in range(0, count, self._BOXES_AT_A_TIME):
            last = min(first + self._BOXES_AT_A_TIME, count)
            # The dependency runs the chunks one after the other, so that only one is in memory.
            chunk = ops.depend(boxes[:, first:last], highest)
            iou = batched_iou(edges, chunk, labels[:, first:last])
            best, index = ops.max(iou, 1)
            is_better = best > highest
            highest = ops.where(is_better, best, highest)
            matched = ops.where(is_better, ops.cast(index, ms.int32) + first, matched)
            best, index = ops.max(iou, 2)
            best_anchors += (ops.cast(index, ms.int32),)
            best_ious += (best,)
        forced = _last_box_of(ops.concat(best_anchors, 1), ops.concat(best_ious, 1) > 0, matched)
        is_matched = ops.logical_or(highest >= self.threshold, forced > 0)
        row = ops.where(forced > 0, forced - 1, matched) + ops.reshape(constant_arange(batch), (-1, 1)) * count
        box = ops.gather(ops.reshape(boxes, (-1, 4)), row, 0)
        label = ops.gather(ops.reshape(labels, (-1,)), row, 0)
        return is_matched, ops.stop_gradient(box), label


def _last_box_of(anchor: ms.Tensor, is_box: ms.Tensor, like: ms.Tensor) -> ms.Tensor:
    """For each anchor the index + 1 of the last box whose best anchor it is; 0 if there is none.

    Args:
        anchor: int32 (N, M), best anchor of each box.
        is_box: bool (N, M), False for padding.
        like: int32 (N, P), of the shape of the result.
    """
    is_last = ops.squeeze(winning_slots(ops.expand_dims(anchor, 2), ops.expand_dims(is_box, 2)), 2)
    numbers = ops.zeros_like(anchor) + (constant_arange(anchor.shape[1]) + 1)
    return scatter_masked(like, anchor, numbers, is_last)


def encode(anchors: Sequence, boxes: ms.Tensor, centre_unit: float, side_unit: float) -> ms.Tensor:
    """The regression (N, P, 4) that transforms anchors (four columns (N, P)) into boxes (N, P, 4) xyxy.

    Liu et al., SSD, 2016, equation 2; the units are those of `apply_regression`.
    """
    x, y, w, h = anchors
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    return ops.stack(
        (
            (boxes[..., 0] + 0.5 * width - x) / (centre_unit * w),
            (boxes[..., 1] + 0.5 * height - y) / (centre_unit * h),
            ops.log(ops.relu(width) / w + _LOG_EPS) / side_unit,
            ops.log(ops.relu(height) / h + _LOG_EPS) / side_unit,
        ),
        2,
    )


class HardNegatives(nn.Cell):
    """Selects the candidates of each image with the highest losses (Liu et al., SSD, 2016, section 2.2).

    Args:
        ratio: maximum number of negatives per positive.
    """

    def __init__(self, ratio: float = 3.0) -> None:
        super().__init__()
        self.ratio = ratio

    def construct(self, losses: ms.Tensor, candidates: ms.Tensor, positives: ms.Tensor) -> ms.Tensor:
        """Selects hard negatives.

        Args:
            losses: float32 (N, P), not negative.
            candidates: bool (N, P).
            positives: float32 (N, P) of 0 and 1.

        Returns:
            float32 (N, P) of 0 and 1, without gradient.
        """
        losses = ops.stop_gradient(ops.where(candidates, losses, -1.0))
        _, order = ops.sort(losses, 1, True)
        # Integers up to 2^24 are exact in float32, the type that all devices can sort.
        _, rank = ops.sort(ops.cast(order, ms.float32), 1)
        allowed = self.ratio * ops.reduce_sum(positives, 1)
        chosen = ops.cast(rank, ms.float32) < ops.broadcast_to(ops.expand_dims(allowed, 1), losses.shape)
        return ops.cast(ops.logical_and(chosen, candidates), ms.float32)
