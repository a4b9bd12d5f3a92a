"""The loss of a YOLO: matching, objectness and classes, which all versions share.

A version adds what it charges for the boxes themselves: see `YoloCriterion.box_losses`.
"""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from src.common.matching import put_at, winners
from src.common.yolo_decode import ANCHORS_PER_SCALE, STRIDES, anchors_by_map, decode_corners, scales_by_map, split_map
from src.common.yolo_targets import (
    ANCHOR_FIRST_CELLS,
    ANCHOR_NUMBERS,
    ANCHOR_STRIDES,
    anchor_iou,
    box_size,
    cell_corners,
    choose_anchors,
    is_object,
)
from src.errors import UsageError


def sigmoid_cross_entropy(logits: ms.Tensor, targets: ms.Tensor) -> ms.Tensor:
    """-z log sigmoid(x) - (1 - z) log(1 - sigmoid(x)), elementwise.

    It is max(x, 0) - x z + log1p(exp(-|x|)), with max(x, 0) as (x + |x|) / 2: so the gradient sigmoid(x) - z is right
    at x = 0 too, where a freshly zeroed head starts.
    """
    magnitude = ops.abs(logits)
    return logits * (0.5 - targets) + 0.5 * magnitude + ops.log1p(ops.exp(-magnitude))


def overlaps_object(corners: tuple, boxes: ms.Tensor, considered: ms.Tensor, threshold: float) -> ms.Tensor:
    """Whether a predicted box overlaps some ground truth with an IoU of at least `threshold`.

    IoU >= t is intersection >= t / (1 + t) * (area + area): neither union nor quotient is formed.

    Args:
        corners: x1, y1, x2, y2 of the predictions, each (N, 1, K).
        boxes: (N, M, 4) xyxy, ground truth.
        considered: bool (N, M): which of them count.
        threshold: 0..1.

    Returns:
        bool (N, K).
    """
    x1, y1, x2, y2 = corners
    share = threshold / (1 + threshold)
    size = box_size(boxes)
    # What no intersection can reach takes a box out.
    least = ops.where(considered, share * size[..., 0] * size[..., 1], 1e30)
    # min(x2, right) - max(x1, left), by relu: minimum and maximum are over ten times slower on CPU when they broadcast.
    width = (x2 - x1) - ops.relu(x2 - boxes[..., 2:3]) - ops.relu(boxes[..., 0:1] - x1)
    height = (y2 - y1) - ops.relu(y2 - boxes[..., 3:4]) - ops.relu(boxes[..., 1:2] - y1)
    # A negative height makes the product negative, which never passes: no second relu over (N, M, K) is needed.
    best, _ = ops.max(ops.relu(width) * height - ops.expand_dims(least, 2), 1)
    return best >= share * ops.squeeze((x2 - x1) * (y2 - y1), 1)


class YoloCriterion(nn.Cell):
    """Raw maps and padded ground truth -> losses of the boxes, of the confidence and of the class.

    Each is summed over everything and divided by the batch size. The confidence is 1 at the winning slots (see
    `yolo_targets`) and 0 elsewhere, but a prediction whose box overlaps a ground truth of the same map by
    `ignore_threshold` is not asked. The class is a sigmoid for each class, at the winning slots only.

    Args:
        anchors: nine pairs (width, height) in pixels, smallest first.
        num_classes: C, object classes.
        ignore_threshold: IoU in 0..1.
        label_smoothing: f moves the class targets to 1 - f for the class itself and f / (C - 1) for the others; 0 is
            off.
        extra_anchor_iou: besides its best anchor a box takes every anchor with a larger IoU of width and height; None =
            only the best.
        scale_x_y: as in `YoloDecoder`.
        coefficients: factor of each loss, in the order of `loss_names`; None = 1 each.
        map_coefficients: factors of all losses of the maps of strides 32, 16, 8.

    Raises:
        UsageError: an argument is out of its range.
    """

    # Names of the scalars that construct returns: those of box_losses, then these.
    loss_names: tuple[str, ...] = ("confidence", "class")

    def __init__(
        self,
        anchors: Sequence[Sequence[float]],
        num_classes: int,
        ignore_threshold: float = 0.7,
        label_smoothing: float = 0.0,
        extra_anchor_iou: float | None = None,
        scale_x_y: Sequence[float] = (1.0, 1.0, 1.0),
        coefficients: Sequence[float] | None = None,
        map_coefficients: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise UsageError(f"num_classes: at least 1 is needed, got {num_classes}")
        for name, value in (("ignore_threshold", ignore_threshold), ("label_smooth_factor", label_smoothing)):
            if not 0 <= value <= 1:
                raise UsageError(f"{name}: a number in 0..1 is needed, got {value}")
        self.coefficients = _factors("coefficients", coefficients or [1.0] * len(self.loss_names), len(self.loss_names))
        self.map_coefficients = _factors("map_coefficients", map_coefficients, len(STRIDES))
        self.num_classes = num_classes
        self.ignore_threshold = ignore_threshold
        self.target_on = 1 - label_smoothing
        self.target_off = label_smoothing / max(num_classes - 1, 1)
        self.extra_anchor_iou = extra_anchor_iou
        groups = anchors_by_map(anchors)
        self.map_anchors = tuple(ms.Tensor(group) for group in groups)
        self.map_scales = scales_by_map(scale_x_y)
        # What belongs to each of the nine anchors, smallest first.
        self.anchors = ms.Tensor(groups[::-1].reshape(-1, 2))
        self.strides = ms.Tensor(ANCHOR_STRIDES, ms.int32)
        self.anchor_coefficients = ms.Tensor(np.repeat(self.map_coefficients[::-1], ANCHORS_PER_SCALE), ms.float32)
        self.numbers = ms.Tensor(ANCHOR_NUMBERS, ms.int32)
        self.first_cells = ms.Tensor(ANCHOR_FIRST_CELLS, ms.int32)
        self.classes = ms.Tensor(np.arange(num_classes), ms.int32)
        self.channels = ms.Tensor(np.arange(5 + num_classes), ms.int32)
        self.placeholder = ms.Tensor([0, 0, 1, 1], ms.float32)

    def construct(
        self, raw_maps: tuple, boxes: ms.Tensor, labels: ms.Tensor, image_size: ms.Tensor | tuple | None = None
    ) -> tuple:
        """Computes the losses.

        Args:
            raw_maps: three maps (N, 3 * (5 + C), h, w), strides 32, 16, 8; float16 is widened to float32.
            boxes: (N, M, 4) xyxy in pixels of the network input; M >= 1.
            labels: int32 (N, M), 0 .. C - 1, or -1 for padding.
            image_size: (height, width); not needed here, since maps and strides give it.

        Returns:
            scalars in the order of `loss_names`; the loss is their sum.
        """
        batch, _, rows, columns = raw_maps[0].shape
        attributes = [split_map(raw, self.num_classes) for raw in raw_maps]
        dtype = attributes[0].dtype
        boxes = ops.stop_gradient(ops.cast(boxes, dtype))
        valid = is_object(boxes, labels)
        # Padding becomes a box of one pixel: masked everywhere, and without division by zero or log of zero.
        boxes = ops.where(ops.expand_dims(valid, 2), boxes, ops.cast(self.placeholder, dtype))
        iou = anchor_iou(boxes, ops.cast(self.anchors, dtype))
        anchor, positive = choose_anchors(iou, valid, self.extra_anchor_iou)
        stride = ops.gather(self.strides, anchor, 0)
        ignored = self._ignored(raw_maps, attributes, boxes, stride, positive)

        finer = STRIDES[0] // stride
        corner = cell_corners(
            boxes, ops.cast(stride, dtype), ops.cast(columns * finer, dtype), ops.cast(rows * finer, dtype)
        )
        cell = ops.cast(corner, ms.int32)
        cell = cell[..., 1] * columns * finer + cell[..., 0]
        number = ops.gather(self.numbers, anchor, 0)
        objectness = ops.concat([attribute[:, :, 4] for attribute in attributes], 2)
        first = number * objectness.shape[2] + ops.gather(self.first_cells, anchor, 0) * rows * columns
        place = first + cell
        winner = ops.cast(winners(place, positive), dtype)

        logits = self._at_slots(attributes, stride, number, cell)
        size = box_size(boxes)
        part = size[..., 0] * size[..., 1] / (rows * columns * STRIDES[0] * STRIDES[0])
        weight = winner * ops.gather(ops.cast(self.anchor_coefficients, dtype), anchor, 0)
        losses = (
            *self.box_losses(logits[..., :4], boxes, anchor, corner, weight * ops.expand_dims(2 - part, 2)),
            self._confidence_loss(objectness, place, winner, ignored, self._cell_coefficients(attributes)),
            self._class_loss(logits[..., 5:], labels, weight),
        )
        return tuple([self.coefficients[i] * losses[i] / batch for i in range(len(losses))])

    def box_losses(
        self, raw_box: ms.Tensor, boxes: ms.Tensor, anchor: ms.Tensor, corner: ms.Tensor, weight: ms.Tensor
    ) -> tuple:
        """What a version of YOLO charges for the boxes themselves: one sum over all slots a name.

        Args:
            raw_box: (N, M, S, 4) tx, ty, tw, th at the slots.
            boxes: (N, M, 4) xyxy in pixels, each of positive area.
            anchor: int32 (N, M, S), an index into `self.anchors` (9, 2) and `self.strides` (9,).
            corner: (N, M, S, 2) column and row of the cell.
            weight: (N, M, S): 2 - w * h (as parts of the image), times the factor of the map, at winning slots, else 0.
        """
        raise NotImplementedError

    def _ignored(
        self, raw_maps: tuple, attributes: list, boxes: ms.Tensor, stride: ms.Tensor, positive: ms.Tensor
    ) -> ms.Tensor:
        """bool (N, 3, h * w of all maps): predictions that overlap a ground truth of their own map.

        A box that lost its place to a later one still counts: it is there to be seen.
        """
        ignored = ()
        for i in range(len(STRIDES)):
            detached = ops.stop_gradient(attributes[i])
            batch, anchors, _, area = detached.shape
            corners = decode_corners(
                detached, raw_maps[i].shape[3], self.map_anchors[i], STRIDES[i], self.map_scales[i]
            )
            corners = [ops.reshape(corner, (batch, 1, -1)) for corner in corners]
            considered = ops.any(ops.logical_and(positive, stride == STRIDES[i]), 2)
            overlaps = overlaps_object(corners, boxes, considered, self.ignore_threshold)
            ignored += (ops.reshape(overlaps, (batch, anchors, area)),)
        return ops.concat(ignored, 2)

    def _at_slots(self, attributes: list, stride: ms.Tensor, number: ms.Tensor, cell: ms.Tensor) -> ms.Tensor:
        """What the maps (N, 3, 5 + C, h * w) hold at the slots.

        Args:
            attributes: the three maps.
            stride, number, cell: int32 (N, M, S): which map, which of its anchors, which of its cells.

        Returns:
            (N, M, S, 5 + C).
        """
        channel = ops.expand_dims(number * attributes[0].shape[2], 3) + self.channels
        result = 0
        for i in range(len(STRIDES)):
            batch, _, _, area = attributes[i].shape
            here = ops.expand_dims(stride == STRIDES[i], 3)
            # Slots of other maps read place 0 here, and are masked.
            place = (channel * area + ops.expand_dims(cell, 3)) * ops.cast(here, ms.int32)
            gathered = ops.gather_elements(ops.reshape(attributes[i], (batch, -1)), 1, ops.reshape(place, (batch, -1)))
            result = result + ops.where(here, ops.reshape(gathered, place.shape), 0)
        return result

    def _cell_coefficients(self, attributes: list) -> ms.Tensor:
        """(1, 3, h * w of all maps): `map_coefficients` at every cell."""
        factors = [ops.ones_like(attributes[i][:1, :, 4]) * self.map_coefficients[i] for i in range(len(STRIDES))]
        return ops.stop_gradient(ops.concat(factors, 2))

    def _confidence_loss(
        self, logits: ms.Tensor, place: ms.Tensor, winner: ms.Tensor, ignored: ms.Tensor, factor: ms.Tensor
    ) -> ms.Tensor:
        """Sigmoid cross-entropy of logits (N, 3, cells): 1 at winners, nothing asked where `ignored`, else 0; times
        the factor (1, 3, cells)."""
        batch = logits.shape[0]
        logits = ops.reshape(logits, (batch, -1))
        place, winner = ops.reshape(place, (batch, -1)), ops.reshape(winner, (batch, -1))
        targets = ops.stop_gradient(put_at(logits, place, winner, winner > 0))
        asked = ops.maximum(targets, 1 - ops.cast(ops.reshape(ignored, (batch, -1)), logits.dtype))
        asked = asked * ops.reshape(factor, (1, -1))
        return ops.reduce_sum(ops.reduce_sum(asked * sigmoid_cross_entropy(logits, targets), 1))

    def _class_loss(self, logits: ms.Tensor, labels: ms.Tensor, weight: ms.Tensor) -> ms.Tensor:
        """Sigmoid cross-entropy of logits (N, M, S, C), weighted by (N, M, S)."""
        own = ops.cast(ops.reshape(labels, (*labels.shape, 1, 1)) == self.classes, logits.dtype)
        targets = self.target_off + own * (self.target_on - self.target_off)
        return ops.reduce_sum(ops.expand_dims(weight, 3) * sigmoid_cross_entropy(logits, targets))


def _factors(name: str, values: Sequence[float], count: int) -> tuple[float, ...]:
    factors = tuple(float(value) for value in values)
    if len(factors) != count or not all(0 <= factor < float("inf") for factor in factors):
        raise UsageError(f"{name}: {count} numbers >= 0 are needed, got {values}")
    return factors
