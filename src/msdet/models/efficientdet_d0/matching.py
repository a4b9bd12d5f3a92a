"""Assignment of ground truths to the anchors of EfficientDet, for a whole batch, in the graph."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from msdet.layers.box_matching import anchor_edges, batched_iou, constant_arange, scatter_masked
from msdet.models.efficientdet_d0.anchors import ANCHORS_PER_CELL, STRIDES, anchor_sizes


class AnchorGrid(nn.Cell):
    """The anchors of `make_anchors`, computed in the graph from an input size that is known only at run time."""

    def __init__(self) -> None:
        super().__init__()
        self.strides = ms.Tensor(STRIDES, ms.int32)
        self.shapes = ms.Tensor(anchor_sizes().astype(np.float32))

    def construct(self, image_size: ms.Tensor | tuple, count: int) -> tuple:
        """Computes the anchors.

        Args:
            image_size: (height, width) in px, multiples of 128.
            count: A, number of anchors.

        Returns:
            centre x, centre y, width, height in px, each float32 (A,).
        """
        columns = ops.cast(image_size[1], ms.int32) // self.strides
        sizes = ops.cast(image_size[0], ms.int32) // self.strides * columns * ANCHORS_PER_CELL
        index = constant_arange(count)
        level = ops.zeros_like(index)
        start = ops.zeros_like(index)
        end = 0
        for i in range(len(STRIDES) - 1):
            end = end + sizes[i]
            is_beyond = ops.cast(index >= end, ms.int32)
            level = level + is_beyond
            start = start + is_beyond * sizes[i]
        cell = (index - start) // ANCHORS_PER_CELL
        shape = ops.gather(self.shapes, index - start - cell * ANCHORS_PER_CELL, 0)
        row = cell // ops.gather(columns, level, 0)
        column = cell - row * ops.gather(columns, level, 0)
        stride = ops.cast(ops.gather(self.strides, level, 0), ms.float32)
        x = (ops.cast(column, ms.float32) + 0.5) * stride
        y = (ops.cast(row, ms.float32) + 0.5) * stride
        return x, y, shape[:, 0] * stride, shape[:, 1] * stride


class Matcher(nn.Cell):
    """Finds the best ground truth of each anchor and optionally the best anchor of each ground truth.

    The IoU is computed for a few boxes at a time to avoid a tensor (N, M, A).
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
            iou: (N, A), the highest of each anchor; -1 in an image without boxes.
            box: (N, A, 4), the matched box; the first one if several have the same IoU.
            label: (N, A), of that box.
            is_forced: bool (N, A), whether the anchor is the best one of its box (the first one of several); of several
                boxes with the same best anchor the first is matched. Boxes with an IoU of 0 force no anchor. Without
                `force_match` all are False.

            None of them has a gradient.
        """
        batch, count = labels.shape
        boxes = ops.stop_gradient(boxes)
        edges = anchor_edges(anchors)
        size = edges[0].shape[0]
        best = ops.zeros((batch, size), ms.float32) - 2
        matched = ops.zeros((batch, size), ms.int32)
        rows = ops.reshape(constant_arange(batch), (-1, 1))
        # The highest IoU of each box, and the anchor that has it.
        best_iou_of_box, best_anchor_of_box = [], []
        for first in range(0, count, self._BOXES_AT_A_TIME):
            last = min(first + self._BOXES_AT_A_TIME, count)
            # The dependency runs the chunks one after the other, so that only one is in memory.
            chunk = ops.depend(boxes[:, first:last], best)
            iou = batched_iou(edges, chunk, labels[:, first:last])
            highest, index = ops.max(iou, 1)
            is_better = highest > best
            best = ops.where(is_better, highest, best)
            matched = ops.where(is_better, ops.cast(index, ms.int32) + first, matched)
            if self.force_match:
                highest, index = ops.max(iou, 2)
                best_iou_of_box.append(highest)
                best_anchor_of_box.append(ops.cast(index, ms.int32))
        # count - index of the first box whose best anchor this is; 0 if there is none.
        forced = ops.zeros_like(matched)
        if self.force_match:
            anchor = ops.concat(best_anchor_of_box, 1)
            is_first = self._is_first(anchor, ops.concat(best_iou_of_box, 1) > 0)
            values = ops.broadcast_to(count - constant_arange(count), anchor.shape)
            forced = scatter_masked(forced, anchor, values, is_first)
        is_forced = forced > 0
        row = ops.where(is_forced, count - forced, matched) + rows * count
        box = ops.gather(ops.reshape(boxes, (-1, 4)), row, 0)
        label = ops.gather(ops.reshape(labels, (-1,)), row, 0)
        return ops.stop_gradient(best), ops.stop_gradient(box), label, is_forced

    def _is_first(self, anchor: ms.Tensor, is_box: ms.Tensor) -> ms.Tensor:
        """bool (N, M): of the boxes with the same anchor, int32 (N, M), the first; padding has `is_box` False."""
        numbers = constant_arange(anchor.shape[1])
        is_earlier = ops.expand_dims(numbers, 0) < ops.expand_dims(numbers, 1)
        same = ops.equal(ops.expand_dims(anchor, 1), ops.expand_dims(anchor, 2))
        rivals = ops.logical_and(ops.logical_and(same, is_earlier), ops.expand_dims(is_box, 1))
        has_rival = ops.reduce_sum(ops.cast(rivals, ms.float32), 2) > 0
        return ops.logical_and(is_box, ops.logical_not(has_rival))
