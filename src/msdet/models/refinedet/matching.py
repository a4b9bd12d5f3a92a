"""Which ground truth each anchor answers for, and which anchors answer for the background, in the graph."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import nn, ops

from msdet.layers.box_matching import count_up, overlaps, put_at, sides_of, winners

# Caffe's original takes no such care; luuuyi's port adds it to the ratio of the sides before the logarithm.
_LOG_EPS = 1e-5


class Matcher(nn.Cell):
    """Gives every anchor the box that it overlaps most, if enough, and every box the anchor that overlaps it most.

    Liu et al., SSD, 2016, section 2.2. Overlaps are computed for a few boxes at a time, so that the whole (N, M, P)
    never exists.

    Args:
        threshold: IoU from which on an anchor answers for a box.
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
            whether the anchor has a box, bool (N, P); that box (N, P, 4) and its label (N, P), of any box where it has
            none. A box whose best anchor is also the best of a later box loses it. No gradient goes through them.
        """
        boxes = ops.stop_gradient(boxes)
        sides = sides_of([ops.expand_dims(ops.stop_gradient(column), 1) for column in anchors])
        batch, count = labels.shape
        size = sides[0].shape[2]
        most = ops.zeros((batch, size), ms.float32) - 1
        which = ops.zeros((batch, size), ms.int32)
        best_places: tuple = ()
        best_overlaps: tuple = ()
        for first in range(0, count, self._BOXES_AT_A_TIME):
            last = min(first + self._BOXES_AT_A_TIME, count)
            # The next boxes wait for these, so that both need not be held at once.
            some = ops.depend(boxes[:, first:last], most)
            overlap = overlaps(sides, some, labels[:, first:last])
            best, place = ops.max(overlap, 1)
            is_better = best > most
            most = ops.where(is_better, best, most)
            which = ops.where(is_better, ops.cast(place, ms.int32) + first, which)
            best, place = ops.max(overlap, 2)
            best_places += (ops.cast(place, ms.int32),)
            best_overlaps += (best,)
        forced = _last_box_of(ops.concat(best_places, 1), ops.concat(best_overlaps, 1) > 0, which)
        is_matched = ops.logical_or(most >= self.threshold, forced > 0)
        row = ops.where(forced > 0, forced - 1, which) + ops.reshape(count_up(batch), (-1, 1)) * count
        box = ops.gather(ops.reshape(boxes, (-1, 4)), row, 0)
        label = ops.gather(ops.reshape(labels, (-1,)), row, 0)
        return is_matched, ops.stop_gradient(box), label


def _last_box_of(place: ms.Tensor, is_box: ms.Tensor, like: ms.Tensor) -> ms.Tensor:
    """Number of the last box, counted from 1, whose place an anchor is; 0 where it is that of none.

    Args:
        place: int32 (N, M), an anchor of each box; is_box: bool (N, M), False for padding.
        like: int32 (N, P), of the shape of the result.
    """
    is_last = ops.squeeze(winners(ops.expand_dims(place, 2), ops.expand_dims(is_box, 2)), 2)
    numbers = ops.zeros_like(place) + (count_up(place.shape[1]) + 1)
    return put_at(like, place, numbers, is_last)


def encode(anchors: Sequence, boxes: ms.Tensor, centre_unit: float, side_unit: float) -> ms.Tensor:
    """The regression (N, P, 4) that takes anchors (four columns (N, P)) to boxes (N, P, 4) xyxy.

    Liu et al., SSD, 2016, equation 2, in the units of `src/msdet/models/refinedet/anchors.py`.
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
    """Of the candidates of each image those of the largest losses, at most `ratio` a positive (Liu et al., SSD, 2016,
    section 2.2).

    Args:
        ratio: negatives a positive.
    """

    def __init__(self, ratio: float = 3.0) -> None:
        super().__init__()
        self.ratio = ratio

    def construct(self, losses: ms.Tensor, candidates: ms.Tensor, positives: ms.Tensor) -> ms.Tensor:
        """Chooses.

        Args:
            losses: float32 (N, P), not negative.
            candidates: bool (N, P).
            positives: float32 (N, P) of 0 and 1.

        Returns:
            float32 (N, P) of 0 and 1; no gradient goes through it.
        """
        losses = ops.stop_gradient(ops.where(candidates, losses, -1.0))
        _, order = ops.sort(losses, 1, True)
        # Whole numbers up to 2^24 are exact in float32, the type that all devices sort.
        _, rank = ops.sort(ops.cast(order, ms.float32), 1)
        allowed = self.ratio * ops.reduce_sum(positives, 1)
        chosen = ops.cast(rank, ms.float32) < ops.broadcast_to(ops.expand_dims(allowed, 1), losses.shape)
        return ops.cast(ops.logical_and(chosen, candidates), ms.float32)
