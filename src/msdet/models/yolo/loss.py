"""The loss of YOLO: matching, objectness and classes, shared by all versions.

A version adds its box loss: see `YoloCriterion.box_losses`.
"""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from msdet.errors import UsageError
from msdet.layers.box_matching import scatter_masked, winning_slots
from msdet.models.yolo.decoder import ANCHORS_PER_SCALE, STRIDES, anchors_by_map, box_corners, scales_by_map, split_map
from msdet.models.yolo.grid import CellGrid
from msdet.models.yolo.targets import (
    ANCHOR_FIRST_CELLS,
    ANCHOR_INDICES,
    ANCHOR_STRIDES,
    anchor_dimensions,
    anchor_iou,
    box_size,
    cell_corners,
    choose_anchors,
    is_object,
)


class SigmoidCrossEntropy(nn.Cell):
    """-z log sigmoid(x) - (1 - z) log(1 - sigmoid(x)), elementwise, for logits x and targets z (without gradient).

    Computed as max(x, 0) - x z + log1p(exp(-|x|)). The gradient sigmoid(x) - z is written out: derived from the parts,
    it would take three times the operators.
    """

    def construct(self, logits: ms.Tensor, targets: ms.Tensor) -> ms.Tensor:
        return ops.relu(logits) - logits * targets + ops.log1p(ops.exp(-ops.abs(logits)))

    def bprop(self, logits: ms.Tensor, targets: ms.Tensor, out: ms.Tensor, dout: ms.Tensor) -> tuple:
        """Gradients of logits and of targets (zero)."""
        return dout * (ops.sigmoid(logits) - targets), ops.zeros_like(targets)


def overlaps_object(
    corners: Sequence, boxes: ms.Tensor, considered: ms.Tensor, group: ms.Tensor, threshold: float
) -> ms.Tensor:
    """Whether a predicted box has an IoU of at least `threshold` with any ground truth.

    IoU >= t is computed as intersection >= t / (1 + t) * (area1 + area2), without union and division.

    Args:
        corners: x1, y1, x2, y2 of the predictions, each (N, 1, K).
        boxes: (N, M, 4) xyxy, ground truth.
        considered: bool (N, M, G), which of them are compared with the predictions of each of G groups.
        group: int32 (K / r,), group of each prediction; the K predictions repeat these groups r times.
        threshold: 0..1.

    Returns:
        bool (N, K).
    """
    x1, y1, x2, y2 = corners
    share = threshold / (1 + threshold)
    size = box_size(boxes)
    # Boxes that are not considered get a limit that no intersection reaches.
    limit = ops.where(considered, ops.expand_dims(share * size[..., 0] * size[..., 1], 2), 1e30)
    limit = ops.gather(limit, group, 2)
    # min(x2, right) - max(x1, left), by relu: minimum and maximum are over ten times slower on CPU when they broadcast.
    width = (x2 - x1) - ops.relu(x2 - boxes[..., 2:3]) - ops.relu(boxes[..., 0:1] - x1)
    height = (y2 - y1) - ops.relu(y2 - boxes[..., 3:4]) - ops.relu(boxes[..., 1:2] - y1)
    # A negative height gives a negative product, which is below the limit: a second relu over (N, M, K) is not needed.
    intersection = ops.relu(width) * height
    n, m, k = intersection.shape
    excess = ops.reshape(intersection, (n, m, -1, group.shape[0])) - ops.expand_dims(limit, 2)
    best, _ = ops.max(ops.reshape(excess, (n, m, k)), 1)
    return best >= share * ops.squeeze((x2 - x1) * (y2 - y1), 1)


class YoloCriterion(nn.Cell):
    """Raw maps and padded ground truth -> losses of boxes, confidence and classes.

    Each loss is a sum divided by the batch size. The target of the confidence is 1 at the winning slots (see
    `msdet.models.yolo.targets`) and 0 elsewhere; predictions whose IoU with a ground truth of the same map is at least
    `ignore_threshold` are ignored. Classes are predicted by one sigmoid each, at the winning slots only.

    Args:
        anchors: nine pairs (width, height) in pixels, smallest first.
        num_classes: C, object classes.
        ignore_threshold: IoU in 0..1.
        label_smoothing: with f, class targets are 1 - f for the true class and f / (C - 1) for the others; 0 is off.
        extra_anchor_iou: besides its best anchor, a box is assigned to every anchor with a larger IoU of width and
            height than this; None = only the best.
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
        self.is_weighted = self.map_coefficients != (1.0,) * len(STRIDES)
        self.cell_coefficients = ms.Tensor(self.map_coefficients, ms.float32)
        self.num_classes = num_classes
        self.ignore_threshold = ignore_threshold
        self.target_on = 1 - label_smoothing
        self.target_off = label_smoothing / max(num_classes - 1, 1)
        self.extra_anchor_iou = extra_anchor_iou
        groups = anchors_by_map(anchors)
        # Width, height and area of the anchors, each (9,).
        self.anchor_dimensions = tuple(map(ms.Tensor, anchor_dimensions(groups[::-1].reshape(-1, 2))))
        scales = scales_by_map(scale_x_y)
        self.grid = CellGrid(groups, scales)
        self.is_scaled = scales != (1.0,) * len(STRIDES)
        self.map_range = ms.Tensor(np.arange(len(STRIDES)), ms.int32)
        # Constants of the nine anchors, smallest first.
        self.anchors = ms.Tensor(groups[::-1].reshape(-1, 2))
        self.strides = ms.Tensor(ANCHOR_STRIDES, ms.float32)
        self.cells_per_stride32 = ms.Tensor(STRIDES[0] // ANCHOR_STRIDES, ms.int32)
        self.map_indices = ms.Tensor([STRIDES.index(stride) for stride in ANCHOR_STRIDES], ms.int32)
        self.anchor_coefficients = ms.Tensor(np.repeat(self.map_coefficients[::-1], ANCHORS_PER_SCALE), ms.float32)
        self.anchor_indices = ms.Tensor(ANCHOR_INDICES, ms.int32)
        self.first_cells = ms.Tensor(ANCHOR_FIRST_CELLS, ms.int32)
        self.classes = ms.Tensor(np.arange(num_classes), ms.int32)
        self.channels = ms.Tensor(np.arange(5 + num_classes), ms.int32)
        self.placeholder = ms.Tensor([0, 0, 1, 1], ms.float32)
        self.cross_entropy = SigmoidCrossEntropy()

    def construct(
        self, raw_maps: tuple, boxes: ms.Tensor, labels: ms.Tensor, image_size: ms.Tensor | tuple | None = None
    ) -> tuple:
        """Computes the losses.

        Args:
            raw_maps: three maps (N, 3 * (5 + C), h, w), strides 32, 16, 8; float16 is converted to float32.
            boxes: (N, M, 4) xyxy in pixels of the network input; M >= 1.
            labels: int32 (N, M), 0 .. C - 1, or -1 for padding.
            image_size: (height, width); not used, it follows from maps and strides.

        Returns:
            scalars in the order of `loss_names`; the loss is their sum.
        """
        batch, _, rows, columns = raw_maps[0].shape
        sizes = [raw.shape[2:] for raw in raw_maps]
        # The concatenated maps: (N, 3, 5 + C, cells).
        attributes = ops.concat([split_map(raw, self.num_classes) for raw in raw_maps], 3)
        dtype = attributes.dtype
        boxes = ops.stop_gradient(ops.cast(boxes, dtype))
        valid = is_object(boxes, labels)
        # Padding becomes a box of one pixel, which is masked everywhere and avoids division by zero and log of zero.
        boxes = ops.where(ops.expand_dims(valid, 2), boxes, ops.cast(self.placeholder, dtype))
        size = box_size(boxes)
        iou = anchor_iou(size, self.anchor_dimensions)
        anchor, positive = choose_anchors(iou, valid, self.extra_anchor_iou)
        grid = self.grid(sizes)
        ignored = self._ignored(attributes, grid, boxes, ops.gather(self.map_indices, anchor, 0), positive)

        ratio = ops.gather(self.cells_per_stride32, anchor, 0)
        corner = cell_corners(
            boxes, ops.gather(self.strides, anchor, 0), ops.cast(ratio * columns, dtype), ops.cast(ratio * rows, dtype)
        )
        cell = ops.cast(corner, ms.int32)
        cell = cell[..., 1] * (ratio * columns) + cell[..., 0]
        cell = cell + ops.gather(self.first_cells, anchor, 0) * (rows * columns)
        index = ops.gather(self.anchor_indices, anchor, 0)
        objectness = attributes[:, :, 4]
        place = index * objectness.shape[2] + cell
        winner = ops.cast(winning_slots(place, positive), dtype)

        logits = self._at_slots(attributes, index, cell)
        area = size[..., 0] * size[..., 1] / (rows * columns * STRIDES[0] * STRIDES[0])
        weight = winner
        if self.is_weighted:
            weight = winner * ops.gather(ops.cast(self.anchor_coefficients, dtype), anchor, 0)
        losses = (
            *self.box_losses(logits[..., :4], boxes, anchor, corner, weight * ops.expand_dims(2 - area, 2)),
            self._confidence_loss(objectness, place, winner, ignored, grid[-1]),
            self._class_loss(logits[..., 5:], labels, weight),
        )
        return tuple([self._times(losses[i], self.coefficients[i]) / batch for i in range(len(losses))])

    def _times(self, loss: ms.Tensor, factor: float) -> ms.Tensor:
        return loss if factor == 1 else loss * factor

    def box_losses(
        self, raw_box: ms.Tensor, boxes: ms.Tensor, anchor: ms.Tensor, corner: ms.Tensor, weight: ms.Tensor
    ) -> tuple:
        """The box losses of a version of YOLO: for each of its names the sum over all slots.

        Args:
            raw_box: (N, M, S, 4) tx, ty, tw, th at the slots.
            boxes: (N, M, 4) xyxy in pixels, each of positive area.
            anchor: int32 (N, M, S), an index into `self.anchors` (9, 2) and `self.strides` (9,).
            corner: (N, M, S, 2) column and row of the cell.
            weight: (N, M, S): 2 - w * h (w, h relative to the image) times the factor of the map; 0 at other slots than
                winners.
        """
        raise NotImplementedError

    def _ignored(
        self, attributes: ms.Tensor, grid: tuple, boxes: ms.Tensor, map_index: ms.Tensor, positive: ms.Tensor
    ) -> ms.Tensor:
        """bool (N, 3, cells of all maps): predictions that overlap a ground truth of their own map.

        Boxes that lost their place to a later one count too: the object is visible all the same.

        Args:
            attributes: the maps, (N, 3, 5 + C, cells).
            grid: see `CellGrid`.
            boxes: (N, M, 4).
            map_index, positive: (N, M, S), of the slots.
        """
        column, row, width, height, cell_stride, scale, map_of_cell = grid
        shifts = ops.stop_gradient(attributes)
        shifts = [shifts[:, :, i] for i in range(4)]
        corners = box_corners(shifts, (column, row), (width, height), cell_stride, scale if self.is_scaled else 1.0)
        columns = [ops.reshape(corner, (corner.shape[0], 1, -1)) for corner in corners]
        own_map = ops.expand_dims(map_index, 3) == self.map_range
        considered = ops.any(ops.logical_and(ops.expand_dims(positive, 3), own_map), 2)
        overlaps = overlaps_object(columns, boxes, considered, map_of_cell, self.ignore_threshold)
        return ops.reshape(overlaps, (overlaps.shape[0], ANCHORS_PER_SCALE, -1))

    def _at_slots(self, attributes: ms.Tensor, index: ms.Tensor, cell: ms.Tensor) -> ms.Tensor:
        """Gathers the predictions at the slots.

        Args:
            attributes: the maps, (N, 3, 5 + C, cells).
            index, cell: int32 (N, M, S), index of the anchor within its map and of the cell among all cells.

        Returns:
            (N, M, S, 5 + C).
        """
        batch, _, channels, area = attributes.shape
        channel = ops.expand_dims(index * channels, 3) + self.channels
        place = channel * area + ops.expand_dims(cell, 3)
        gathered = ops.gather_elements(ops.reshape(attributes, (batch, -1)), 1, ops.reshape(place, (batch, -1)))
        return ops.reshape(gathered, place.shape)

    def _confidence_loss(
        self, logits: ms.Tensor, place: ms.Tensor, winner: ms.Tensor, ignored: ms.Tensor, map_index: ms.Tensor
    ) -> ms.Tensor:
        """Sigmoid cross-entropy of logits (N, 3, cells).

        The target is 1 at winners and 0 elsewhere; other cells where `ignored` is set do not count. `map_index`
        (cells,) is the map of each cell, by whose factor its loss is weighted.
        """
        batch = logits.shape[0]
        flat = ops.reshape(logits, (batch, -1))
        place, winner = ops.reshape(place, (batch, -1)), ops.reshape(winner, (batch, -1))
        targets = ops.reshape(ops.stop_gradient(scatter_masked(flat, place, winner, winner > 0)), ignored.shape)
        weight = ops.maximum(targets, ops.cast(ops.logical_not(ignored), logits.dtype))
        if self.is_weighted:
            weight = weight * ops.gather(ops.cast(self.cell_coefficients, logits.dtype), map_index, 0)
        return ops.reduce_sum(ops.reduce_sum(weight * self.cross_entropy(logits, targets), 2))

    def _class_loss(self, logits: ms.Tensor, labels: ms.Tensor, weight: ms.Tensor) -> ms.Tensor:
        """Sigmoid cross-entropy of logits (N, M, S, C), weighted by (N, M, S)."""
        targets = ops.cast(ops.reshape(labels, (*labels.shape, 1, 1)) == self.classes, logits.dtype)
        if self.target_off:
            targets = self.target_off + targets * (self.target_on - self.target_off)
        targets = ops.broadcast_to(targets, logits.shape)
        return ops.reduce_sum(ops.expand_dims(weight, 3) * self.cross_entropy(logits, targets))


def _factors(name: str, values: Sequence[float], count: int) -> tuple[float, ...]:
    factors = tuple(float(value) for value in values)
    if len(factors) != count or not all(0 <= factor < float("inf") for factor in factors):
        raise UsageError(f"{name}: {count} numbers >= 0 are needed, got {values}")
    return factors
