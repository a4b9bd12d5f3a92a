"""The loss of YOLOv3 (Redmon & Farhadi, 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import ops

from msdet.models.yolo.loss import YoloCriterion
from msdet.models.yolo.targets import box_size


class YoloV3Criterion(YoloCriterion):
    """Raw maps and padded ground truth -> losses "xy", "wh", "confidence", "class".

    Each box is assigned to the one of all nine anchors that fits its width and height best. The loss of the centre is
    sigmoid cross-entropy with its offset in the cell, that of width and height is half the squared error of their
    logarithms; both are weighted by 2 - w * h (w, h relative to the image), so that small boxes weigh up to twice as
    much as large ones.

    Args:
        anchors: nine pairs (width, height) in pixels, smallest first.
        num_classes: C, object classes.
        ignore_threshold: predictions whose IoU with a ground truth of their map is at least this are not negatives.
        label_smoothing: see `YoloCriterion`.

    Raises:
        UsageError: an argument is out of its range.
    """

    loss_names = ("xy", "wh", *YoloCriterion.loss_names)

    def __init__(
        self,
        anchors: Sequence[Sequence[float]],
        num_classes: int,
        ignore_threshold: float = 0.7,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(anchors, num_classes, ignore_threshold, label_smoothing)

    def box_losses(
        self, raw_box: ms.Tensor, boxes: ms.Tensor, anchor: ms.Tensor, corner: ms.Tensor, weight: ms.Tensor
    ) -> tuple:
        """Sums of the losses "xy" and "wh"; arguments as in `YoloCriterion`."""
        weight = ops.expand_dims(weight, 3)
        stride = ops.expand_dims(ops.gather(self.strides, anchor, 0), 3)
        centre = ops.expand_dims((boxes[..., :2] + boxes[..., 2:]) / 2, 2) / stride
        # Clipped, since a centre outside the image belongs to the nearest cell.
        offset = ops.clip_by_value(centre - corner, 0, 1)
        log_size = ops.log(ops.expand_dims(box_size(boxes), 2) / ops.gather(self.anchors, anchor, 0))
        error = raw_box[..., 2:] - log_size
        xy = weight * self.cross_entropy(raw_box[..., :2], offset)
        return ops.reduce_sum(xy), ops.reduce_sum(weight * (0.5 * error * error))
