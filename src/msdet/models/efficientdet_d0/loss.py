"""The loss of EfficientDet (Tan et al., 2020): focal loss of the classes, smooth L1 or Huber loss of the boxes."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from msdet.errors import UsageError
from msdet.layers.shared_count import SharedCount
from msdet.models.efficientdet_d0.matching import AnchorGrid, Matcher

BOX_LOSSES = ("smooth_l1", "huber")
NORMALIZERS = ("image", "batch")


def softplus(x: ms.Tensor) -> ms.Tensor:
    """log(1 + e^x), elementwise, without overflow; the gradient is sigmoid(x), at x = 0 too."""
    magnitude = ops.abs(x)
    return 0.5 * (x + magnitude) + ops.log1p(ops.exp(-magnitude))


def focal_loss_absent(logits: ms.Tensor, alpha: float, gamma: float) -> ms.Tensor:
    """Focal loss of absent classes, elementwise: (1 - alpha) p^gamma (-log(1 - p)), p = sigmoid(logits).

    Lin et al., Focal Loss, 2017, equation 5; computed from log p, so that no probability is rounded to 0 or 1.
    """
    loss = softplus(logits)
    return (1 - alpha) * ops.exp(gamma * (logits - loss)) * loss


class FocalLossAbsent(nn.Cell):
    """`focal_loss_absent` summed over the classes: logits (N, A, C) -> (N, A).

    The gradient is written out so that only the logits, by far the largest map, are stored for it.

    Args:
        alpha, gamma: of the focal loss.
    """

    def __init__(self, alpha: float, gamma: float) -> None:
        super().__init__()
        self.alpha, self.gamma = alpha, gamma

    def construct(self, logits: ms.Tensor) -> ms.Tensor:
        return ops.reduce_sum(focal_loss_absent(logits, self.alpha, self.gamma), 2)

    def bprop(self, logits: ms.Tensor, out: ms.Tensor, dout: ms.Tensor) -> tuple[ms.Tensor]:
        """d/dx = (1 - alpha) p^gamma (gamma (1 - p) (-log(1 - p)) + p)."""
        loss = softplus(logits)
        log_p = logits - loss
        p = ops.exp(log_p)
        slope = ops.exp(self.gamma * log_p) * (self.gamma * (1 - p) * loss + p)
        return (slope * ops.broadcast_to(ops.expand_dims((1 - self.alpha) * dout, 2), slope.shape),)


def focal_loss_present(logits: ms.Tensor, alpha: float, gamma: float) -> ms.Tensor:
    """Focal loss of present classes, elementwise: alpha (1 - p)^gamma (-log p), p = sigmoid(logits)."""
    loss = softplus(-logits)
    return alpha * ops.exp(gamma * (-logits - loss)) * loss


class EfficientDetCriterion(nn.Cell):
    """Raw maps and padded ground truth -> losses "class", "box".

    Each anchor is matched to the ground truth with the highest IoU: it is positive if the IoU is at least
    `positive_iou`, negative if it is below `negative_iou`, and ignored in between. With `force_match`, as in
    google/automl, the best anchor of each ground truth is positive regardless of the IoU; if several ground truths
    share it, the first one is used. Without it, as in the published PyTorch port, a ground truth without an anchor of
    sufficient IoU is not learnt.

    Both losses are divided by the number of positive anchors (and the box loss also by 4, the values of a box). With
    `image` this is the number of each image, at least 1, and the result is averaged over the batch, as in the published
    PyTorch port and the old model zoo. With `batch` it is the number of the whole batch over all ranks plus 1, as in
    google/automl, where images with many objects have a larger weight.

    Args:
        num_classes: C, object classes.
        focal_alpha, focal_gamma: of the focal loss.
        box_loss: smooth_l1: d^2 / (2 beta) up to d = beta, then d - beta / 2; huber: beta times that.
        box_loss_beta: beta, in units of the regression.
        box_loss_weight: weight of the box loss.
        positive_iou, negative_iou, force_match: see above.
        loss_normalizer: image or batch.

    Raises:
        UsageError: an argument is out of its range.
    """

    loss_names = ("class", "box")

    def __init__(
        self,
        num_classes: int,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
        box_loss: str = "smooth_l1",
        box_loss_beta: float = 1 / 9,
        box_loss_weight: float = 50.0,
        positive_iou: float = 0.5,
        negative_iou: float = 0.4,
        loss_normalizer: str = "image",
        force_match: bool = False,
    ) -> None:
        super().__init__()
        _check(num_classes, box_loss, box_loss_beta, positive_iou, negative_iou, loss_normalizer)
        self.num_classes = num_classes
        self.alpha, self.gamma = focal_alpha, focal_gamma
        self.beta = box_loss_beta
        self.box_factor = box_loss_weight * (box_loss_beta if box_loss == "huber" else 1) / 4
        self.positive_iou, self.negative_iou = positive_iou, negative_iou
        self.is_per_image = loss_normalizer == "image"
        self.absent_loss = FocalLossAbsent(focal_alpha, focal_gamma)
        self.grid = AnchorGrid()
        self.match = Matcher(force_match)
        self.shared_count = SharedCount(added=1.0)

    def construct(
        self, raw_maps: tuple, boxes: ms.Tensor, labels: ms.Tensor, image_size: ms.Tensor | tuple
    ) -> tuple[ms.Tensor, ms.Tensor]:
        """Computes the losses.

        Args:
            raw_maps: regression (N, A, 4), classification logits (N, A, C); float16 is converted to float32.
            boxes: (N, M, 4) xyxy in pixels of the network input; M >= 1.
            labels: int32 (N, M), 0 .. C - 1, or -1 for padding.
            image_size: (height, width) of the network input in pixels.

        Returns:
            scalars in the order of `loss_names`; the loss is their sum.
        """
        regression = ops.cast(raw_maps[0], ms.float32)
        logits = ops.cast(raw_maps[1], ms.float32)
        anchors = self.grid(image_size, regression.shape[1])
        iou, box, label, is_forced = self.match(anchors, ops.cast(boxes, ms.float32), labels)
        positive = ops.cast(ops.logical_or(iou >= self.positive_iou, is_forced), ms.float32)
        counts = ops.maximum(positive, ops.cast(iou < self.negative_iou, ms.float32))
        number = ops.reduce_sum(positive, 1)
        class_loss = self._class_losses(logits, label, positive, counts)
        box_loss = self.box_factor * self._box_losses(regression, anchors, box, positive)
        if self.is_per_image:
            number = ops.maximum(number, 1)
            return ops.reduce_mean(class_loss / number), ops.reduce_mean(box_loss / number)
        total = self.shared_count(ops.reduce_sum(number))
        return ops.reduce_sum(class_loss) / total, ops.reduce_sum(box_loss) / total

    def _class_losses(self, logits: ms.Tensor, label: ms.Tensor, positive: ms.Tensor, counts: ms.Tensor) -> ms.Tensor:
        """Sum per image, (N,): all classes as absent, corrected at positive anchors for the class that is present."""
        absent = self.absent_loss(logits) * counts
        own = ops.squeeze(ops.gather_elements(logits, 2, ops.expand_dims(ops.maximum(label, 0), 2)), 2)
        correction = focal_loss_present(own, self.alpha, self.gamma) - focal_loss_absent(own, self.alpha, self.gamma)
        return ops.reduce_sum(absent + correction * positive, 1)

    def _box_losses(self, regression: ms.Tensor, anchors: tuple, box: ms.Tensor, positive: ms.Tensor) -> ms.Tensor:
        """Sum per image, (N,), over the positive anchors and the four values of a box."""
        x, y, w, h = [ops.broadcast_to(column, positive.shape) for column in anchors]
        width, height = box[..., 2] - box[..., 0], box[..., 3] - box[..., 1]
        target = ops.stack(
            (
                (box[..., 1] + 0.5 * height - y) / h,
                (box[..., 0] + 0.5 * width - x) / w,
                # The published trainings treat boxes as at least one pixel high and wide.
                ops.log(ops.maximum(height, 1) / h),
                ops.log(ops.maximum(width, 1) / w),
            ),
            2,
        )
        error = ops.abs(regression - ops.stop_gradient(target))
        loss = ops.where(error <= self.beta, (0.5 / self.beta) * ops.square(error), error - 0.5 * self.beta)
        return ops.reduce_sum(ops.reduce_sum(loss, 2) * positive, 1)


def _check(
    num_classes: int, box_loss: str, beta: float, positive_iou: float, negative_iou: float, normalizer: str
) -> None:
    if num_classes < 1:
        raise UsageError(f"num_classes: at least 1 is needed, got {num_classes}")
    if box_loss not in BOX_LOSSES:
        raise UsageError(f"box_loss is {box_loss!r}; it takes one of {', '.join(BOX_LOSSES)}")
    if normalizer not in NORMALIZERS:
        raise UsageError(f"loss_normalizer is {normalizer!r}; it takes one of {', '.join(NORMALIZERS)}")
    if beta <= 0:
        raise UsageError(f"box_loss_beta: a number above 0 is needed, got {beta}")
    if not 0 <= negative_iou <= positive_iou <= 1:
        raise UsageError(f"0 <= negative_iou <= positive_iou <= 1 is needed, got {negative_iou} and {positive_iou}")
