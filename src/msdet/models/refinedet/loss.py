"""The loss of RefineDet (Zhang et al., 2018, section 3.3): objectness of anchors, then classes of refined anchors."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from msdet.errors import UsageError
from msdet.layers.shared_count import SharedCount
from msdet.models.refinedet.anchors import CENTRE_UNIT, SIDE_UNIT, anchor_columns, apply_regression, objectness
from msdet.models.refinedet.matching import HardNegatives, Matcher, encode


class RefineDetCriterion(nn.Cell):
    """Raw maps and padded ground truth -> losses "arm_box", "arm_class", "odm_box", "odm_class".

    The first two, of the anchor refinement module (ARM), classify anchors as object or background; the others, of the
    object detection module (ODM), classify the anchors refined by the ARM, without a gradient to the refinement. Boxes:
    smooth L1, summed over the positives. Classes: softmax cross-entropy, summed over the positives and the hard
    negatives. Each pair is divided by its number of positives in the whole batch over all ranks, at least 1.

    Anchors whose objectness does not exceed the threshold are easy negatives and are filtered out in the ODM:

    - `mine_filtered_anchors` False, as in the original (Caffe): they are never mined as negatives; matched anchors are
      positive all the same.
    - True, as in the PyTorch port of luuuyi: filtered anchors are never positive, but may be mined; the target of a
      matched one is then the class of its box.

    Args:
        num_classes: C, object classes.
        image_size: (height, width) of the network input in px, multiples of 64.
        match_threshold: see `Matcher`.
        neg_pos_ratio: see `HardNegatives`.
        objectness_threshold: see above; 0..1.
        mine_filtered_anchors: see above.
        clip_anchors: see `make_anchors`.

    Raises:
        UsageError: an argument is out of its range.
    """

    loss_names = ("arm_box", "arm_class", "odm_box", "odm_class")

    def __init__(
        self,
        num_classes: int,
        image_size: tuple[int, int],
        match_threshold: float = 0.5,
        neg_pos_ratio: float = 3.0,
        objectness_threshold: float = 0.01,
        mine_filtered_anchors: bool = False,
        clip_anchors: bool = False,
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise UsageError(f"num_classes: at least 1 is needed, got {num_classes}")
        if any(side < 64 or side % 64 for side in image_size):
            raise UsageError(f"image_size: multiples of 64 px are needed, got {tuple(image_size)}")
        self.num_classes = num_classes
        self.image_size = tuple(image_size)
        self.objectness_threshold = objectness_threshold
        self.mine_filtered = mine_filtered_anchors
        self.clip = clip_anchors
        self.match = Matcher(match_threshold)
        self.hard_negatives = HardNegatives(neg_pos_ratio)
        self.arm_count, self.odm_count = SharedCount(), SharedCount()

    def construct(self, raw_maps: tuple, boxes: ms.Tensor, labels: ms.Tensor, image_size: ms.Tensor | tuple) -> tuple:
        """Computes the losses.

        Args:
            raw_maps: arm_loc (N, P, 4), arm_conf (N, P, 2), odm_loc (N, P, 4), odm_conf (N, P, C + 1); float16 is
                converted to float32.
            boxes: (N, M, 4) xyxy in pixels of the network input; M >= 1.
            labels: int32 (N, M), 0 .. C - 1, or -1 for padding.
            image_size: (height, width) of the network input; not used, that of the criterion is.

        Returns:
            scalars in the order of `loss_names`; the loss is their sum.
        """
        arm_loc, arm_conf, odm_loc, odm_conf = [ops.cast(map_, ms.float32) for map_ in raw_maps]
        boxes = ops.cast(boxes, ms.float32)
        columns = anchor_columns(self.image_size[0], self.image_size[1], self.clip)
        anchors = [ops.broadcast_to(column, arm_loc.shape[:2]) for column in columns]
        # Not unpacked completely: for an unused item the compiler warns of a lost side effect.
        matched, box = self.match(anchors, boxes, labels)[:2]
        target = encode(anchors, box, CENTRE_UNIT, SIDE_UNIT)
        arm = self._losses(arm_loc, arm_conf, target, matched, ops.cast(matched, ms.int32), ops.logical_not(matched))
        refined = apply_regression(anchors, ops.stop_gradient(arm_loc))
        matched, box, label = self.match(refined, boxes, labels)
        target = encode(refined, box, CENTRE_UNIT, SIDE_UNIT)
        classes = ops.where(matched, label + 1, 0)
        passes = ops.stop_gradient(objectness(arm_conf)) > self.objectness_threshold
        if self.mine_filtered:
            positive = ops.logical_and(matched, passes)
            candidates = ops.logical_not(positive)
        else:
            positive = matched
            candidates = ops.logical_and(ops.logical_not(matched), passes)
        odm = self._losses(odm_loc, odm_conf, target, positive, classes, candidates)
        arm_count, odm_count = self.arm_count(arm[2]), self.odm_count(odm[2])
        return arm[0] / arm_count, arm[1] / arm_count, odm[0] / odm_count, odm[1] / odm_count

    def _losses(
        self,
        loc: ms.Tensor,
        conf: ms.Tensor,
        target: ms.Tensor,
        positive: ms.Tensor,
        classes: ms.Tensor,
        candidates: ms.Tensor,
    ) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        """Summed box loss, summed class loss, and the number of positives.

        Args:
            loc, target: (N, P, 4).
            conf: logits (N, P, K).
            positive: bool (N, P).
            classes: int32 (N, P), 0 .. K - 1; 0 is the background.
            candidates: bool (N, P), candidates for hard negatives.
        """
        is_positive = ops.cast(positive, ms.float32)
        # Targets of other anchors are meaningless and possibly infinite: they must not be multiplied.
        target = ops.where(ops.broadcast_to(ops.expand_dims(positive, 2), loc.shape), ops.stop_gradient(target), loc)
        error = ops.abs(loc - ops.stop_gradient(target))
        smooth = ops.where(error < 1, 0.5 * ops.square(error), error - 0.5)
        box_loss = ops.reduce_sum(ops.reduce_sum(smooth, 2) * is_positive)
        log_p = ops.log_softmax(conf, -1)
        entropy = -ops.squeeze(ops.gather_elements(log_p, 2, ops.expand_dims(classes, 2)), 2)
        counts = is_positive + self.hard_negatives(entropy, candidates, is_positive)
        return box_loss, ops.reduce_sum(entropy * counts), ops.reduce_sum(is_positive)
