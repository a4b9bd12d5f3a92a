"""The loss of YOLOv4 (Bochkovskiy et al., 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import ops

from msdet.errors import UsageError
from msdet.layers.iou_loss import IOU_LOSSES, paired_iou
from msdet.models.yolo.decoder import ANCHORS_PER_SCALE, box_corners
from msdet.models.yolo.loss import YoloCriterion


class YoloV4Criterion(YoloCriterion):
    """Raw maps and padded ground truth -> losses "box", "confidence", "class".

    A box is assigned to the one of all nine anchors that fits its width and height best, and to every other one whose
    IoU of width and height is above 0.213. The box loss at each of these places is 1 - CIoU (or GIoU, DIoU), weighted
    by 2 - w * h (w, h relative to the image), so that small boxes weigh up to twice as much as large ones.

    Args:
        anchors, num_classes, ignore_threshold, label_smoothing, scale_x_y: see `YoloCriterion`.
        iou_loss: ciou, diou or giou.
        coefficients: factors of the losses of box, confidence and class.
        map_coefficients: factors of all losses of the maps of strides 32, 16, 8.

    Raises:
        UsageError: an argument is out of its range.
    """

    loss_names = ("box", *YoloCriterion.loss_names)
    # iou_thresh in darknet's yolov4.cfg.
    EXTRA_ANCHOR_IOU = 0.213

    def __init__(
        self,
        anchors: Sequence[Sequence[float]],
        num_classes: int,
        ignore_threshold: float = 0.7,
        label_smoothing: float = 0.0,
        scale_x_y: Sequence[float] = (1.2, 1.1, 1.05),
        iou_loss: str = "ciou",
        coefficients: Sequence[float] = (10.0, 1.0, 1.0),
        map_coefficients: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> None:
        super().__init__(
            anchors,
            num_classes,
            ignore_threshold,
            label_smoothing,
            self.EXTRA_ANCHOR_IOU,
            scale_x_y,
            coefficients,
            map_coefficients,
        )
        if iou_loss not in IOU_LOSSES:
            raise UsageError(f"iou_loss is {iou_loss!r}; it takes one of {', '.join(IOU_LOSSES)}")
        self.iou_loss = iou_loss
        self.anchor_scales = ms.Tensor([scale for scale in scale_x_y for _ in range(ANCHORS_PER_SCALE)], ms.float32)

    def box_losses(
        self, raw_box: ms.Tensor, boxes: ms.Tensor, anchor: ms.Tensor, corner: ms.Tensor, weight: ms.Tensor
    ) -> tuple:
        """Sum of the loss "box"; arguments as in `YoloCriterion`."""
        anchor_size = ops.gather(self.anchors, anchor, 0)
        corners = box_corners(
            [raw_box[..., i] for i in range(4)],
            (corner[..., 0], corner[..., 1]),
            (anchor_size[..., 0], anchor_size[..., 1]),
            ops.gather(self.strides, anchor, 0),
            ops.gather(self.anchor_scales, anchor, 0),
        )
        predicted = ops.stack(corners, -1)
        target = ops.broadcast_to(ops.expand_dims(boxes, 2), predicted.shape)
        return (ops.reduce_sum(weight * (1 - paired_iou(predicted, target, self.iou_loss))),)
