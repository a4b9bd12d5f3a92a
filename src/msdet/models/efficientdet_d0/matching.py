"""The assignment of ground truths to anchors, for a whole batch, in the graph."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from msdet.layers.box_matching import count_up, overlaps, put_at, sides_of
from msdet.models.efficientdet_d0.anchors import ANCHORS_PER_CELL, STRIDES, anchor_shapes


class AnchorGrid(nn.Cell):
    """The anchors of `make_anchors`, computed in the graph, for an input size that only the batch tells."""

    def __init__(self) -> None:
        super().__init__()
        self.strides = ms.Tensor(STRIDES, ms.int32)
        self.shapes = ms.Tensor(anchor_shapes().astype(np.float32))

    def construct(self, image_size: ms.Tensor | tuple, count: int) -> tuple:
        """Computes the anchors.

        Args:
            image_size: (height, width) in px, multiples of 128.
            count: A, rows of the raw maps.

        Returns:
            centre x, centre y, width, height in px, each float32 (A,).
        """
        columns = ops.cast(image_size[1], ms.int32) // self.strides
        sizes = ops.cast(image_size[0], ms.int32) // self.strides * columns * ANCHORS_PER_CELL
        index = count_up(count)
        level = ops.zeros_like(index)
        start = ops.zeros_like(index)
        end = 0
        for i in range(len(STRIDES) - 1):
            end = end + sizes[i]
            behind = ops.cast(index >= end, ms.int32)
            level = level + behind
            start = start + behind * sizes[i]
        cell = (index - start) // ANCHORS_PER_CELL
        shape = ops.gather(self.shapes, index - start - cell * ANCHORS_PER_CELL, 0)
        row = cell // ops.gather(columns, level, 0)
        column = cell - row * ops.gather(columns, level, 0)
        stride = ops.cast(ops.gather(self.strides, level, 0), ms.float32)
        x = (ops.cast(column, ms.float32) + 0.5) * stride
        y = (ops.cast(row, ms.float32) + 0.5) * stride
        return x, y, shape[:, 0] * stride, shape[:, 1] * stride


class Matcher(nn.Cell):
    """The ground truth that each anchor overlaps most, and on wish the anchor that each ground truth overlaps most.

    Overlaps are computed for a few boxes at a time, so that the whole (N, M, A) never exists.
    """

    _BOXES_AT_A_TIME = 16

    def __init__(self, force_match: bool = False) -> None:
        """Args: force_match: see `EfficientDetCriterion`."""
        super().__init__()
        self.force_match = force_match

    def construct(self, anchors: tuple, boxes: ms.Tensor, labels: ms.Tensor) -> tuple:
        """Matches.

        Args:
            anchors: centre x, centre y, width, height, each (A,).
            boxes: float32 (N, M, 4) xyxy.
            labels: int32 (N, M), -1 for padding.

        Returns:
            the IoU (N, A), -1 in an image without boxes; the box (N, A, 4) and its label (N, A) that has it, the first
            of several; whether the anchor is forced, bool (N, A): it is then the one that the box overlaps most, the
            first of several, and of several such boxes it has the first. A box that overlaps no anchor forces none.
            Without `force_match` all are False. No gradient goes through them.
        """
        batch, count = labels.shape
        boxes = ops.stop_gradient(boxes)
        sides = sides_of(anchors)
        size = sides[0].shape[0]
        best = ops.zeros((batch, size), ms.float32) - 2
        which = ops.zeros((batch, size), ms.int32)
        rows = ops.reshape(count_up(batch), (-1, 1))
        # Of each box the largest IoU, and the anchor that has it.
        most_of_box, anchor_of_box = [], []
        for first in range(0, count, self._BOXES_AT_A_TIME):
            last = min(first + self._BOXES_AT_A_TIME, count)
            # The next boxes wait for these, so that both need not be held at once.
            some = ops.depend(boxes[:, first:last], best)
            overlap = overlaps(sides, some, labels[:, first:last])
            most, place = ops.max(overlap, 1)
            is_better = most > best
            best = ops.where(is_better, most, best)
            which = ops.where(is_better, ops.cast(place, ms.int32) + first, which)
            if self.force_match:
                most, place = ops.max(overlap, 2)
                most_of_box.append(most)
                anchor_of_box.append(ops.cast(place, ms.int32))
        # count - number of the first box, counted from 0, that the anchor is the best for; 0 for none.
        forced = ops.zeros_like(which)
        if self.force_match:
            place = ops.concat(anchor_of_box, 1)
            is_first = self._is_first(place, ops.concat(most_of_box, 1) > 0)
            forced = put_at(forced, place, ops.broadcast_to(count - count_up(count), place.shape), is_first)
        is_forced = forced > 0
        row = ops.where(is_forced, count - forced, which) + rows * count
        box = ops.gather(ops.reshape(boxes, (-1, 4)), row, 0)
        label = ops.gather(ops.reshape(labels, (-1,)), row, 0)
        return ops.stop_gradient(best), ops.stop_gradient(box), label, is_forced

    def _is_first(self, place: ms.Tensor, counts: ms.Tensor) -> ms.Tensor:
        """Of the boxes that count and have the same place, the first: bool (N, M), as `counts`; place: int32 (N, M)."""
        numbers = count_up(place.shape[1])
        is_earlier = ops.expand_dims(numbers, 0) < ops.expand_dims(numbers, 1)
        same = ops.equal(ops.expand_dims(place, 1), ops.expand_dims(place, 2))
        rivals = ops.logical_and(ops.logical_and(same, is_earlier), ops.expand_dims(counts, 1))
        has_rival = ops.reduce_sum(ops.cast(rivals, ms.float32), 2) > 0
        return ops.logical_and(counts, ops.logical_not(has_rival))
