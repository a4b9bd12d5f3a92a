"""Post-processing: from the boxes and scores of a decoder to the final detections of one image."""

from __future__ import annotations

import functools
import logging
import time
from dataclasses import dataclass

import numpy as np

from msdet.errors import UserError
from msdet.ops import nms

_LOG = logging.getLogger(__name__)

NMS_TYPES = ("greedy", "diou", "soft")


@dataclass(frozen=True)
class PostprocessOptions:
    """Thresholds and limits of post-processing.

    Attributes:
        score_threshold: a class of a box is a candidate if its score is greater; 0..1.
        nms_threshold: IoU or DIoU above which the box with the lower score is suppressed; 0..1.
        nms_type: greedy, diou or soft (factor exp(-IoU^2 / 0.5); nms_threshold is ignored).
        max_detections: maximum number of detections per image; 0 = no limit. COCO scores the best 100 *of each class*
            of an image, so a limit of 100 per image can reduce AP slightly.
        pre_nms_top_k_per_class: maximum number of candidates per class of an image before NMS, the best ones; 0 = all.
        multi_label: False keeps only the best class of a box, True every class that passes.
        multi_label_thresh: with multi_label, a score must also be greater than this; 0..1. (If a score is objectness
            times class probability, the decoder compares the probability with it.)
    """

    score_threshold: float = 0.001
    nms_threshold: float = 0.5
    nms_type: str = "greedy"
    max_detections: int = 300
    pre_nms_top_k_per_class: int = 0
    multi_label: bool = False
    multi_label_thresh: float = 0.0

    def __post_init__(self) -> None:
        if self.nms_type not in NMS_TYPES:
            raise UserError(f"nms_type is {self.nms_type!r}: it must be one of {', '.join(NMS_TYPES)}")
        for name in ("score_threshold", "nms_threshold", "multi_label_thresh"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} is {getattr(self, name)}: it must be between 0 and 1")
        for name in ("max_detections", "pre_nms_top_k_per_class"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name} is {getattr(self, name)}: it must not be negative")


@dataclass
class Detections:
    """Detections of one image in descending order of score.

    Attributes:
        boxes: (n,4) float32 xyxy px.
        scores: (n,) float32, 0..1.
        labels: (n,) int32, 0-based classes.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


def postprocess(boxes: np.ndarray, scores: np.ndarray, options: PostprocessOptions) -> Detections:
    """Score threshold, top-k and non-maximum suppression for one image.

    Args:
        boxes: (K,4) float32 xyxy px.
        scores: (K,C) float32, 0..1.
        options: thresholds and limits.

    Returns:
        detections in descending order of score, ties in ascending order of box and class; empty arrays if nothing
        passes. The best class of a box is the lowest of those with the highest score.

    Raises:
        UserError: a score or a candidate's box is NaN or infinite.
    """
    boxes = nms.readonly(boxes, np.float32)
    scores = nms.readonly(scores, np.float32)
    if scores.ndim != 2 or boxes.shape != (len(scores), 4):
        raise ValueError(f"boxes and scores must have the shapes (K,4) and (K,C), got {boxes.shape} and {scores.shape}")
    index, labels, values = _candidates(boxes, scores, options)
    per_class, max_detections = options.pre_nms_top_k_per_class, options.max_detections
    if options.nms_type == "soft":
        kept, final_scores = nms.soft_nms(
            boxes,
            values,
            labels,
            min_score=options.score_threshold,
            top_k_per_class=per_class,
            max_detections=max_detections,
            box_index=index,
        )
    else:
        kept = nms.greedy_nms(
            boxes,
            values,
            labels,
            options.nms_threshold,
            distance=options.nms_type == "diou",
            top_k_per_class=per_class,
            max_detections=max_detections,
            box_index=index,
        )
        final_scores = values[kept]
    return Detections(boxes[index[kept]], final_scores, labels[kept])


def _candidates(
    boxes: np.ndarray, scores: np.ndarray, options: PostprocessOptions
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Box index (n,), label (n,) and score (n,) of the candidates, in ascending order of box and class."""
    threshold = np.float32(options.score_threshold)
    if options.multi_label:
        least = max(threshold, np.float32(options.multi_label_thresh))
        thresholds = nms.readonly(np.full(len(scores), least), np.float32)
        index, labels, values, bad_score, bad_box = nms.kernels().all_classes(boxes, scores, thresholds)
    else:
        index, labels, values, bad_score, bad_box = nms.kernels().best_class(boxes, scores, threshold)
    if bad_score >= 0 or bad_box >= 0:
        what = f"a score of box {bad_score}" if bad_score >= 0 else f"box {bad_box} {boxes[bad_box].tolist()}"
        raise UserError(
            f"the network's output is not finite: {what}. The training has diverged or the checkpoint is damaged; "
            "use an earlier checkpoint"
        )
    return index, labels, values


@functools.cache
def warm_up() -> float:
    """Compiles the kernels, or loads them from numba's cache, once per process; returns the seconds it took."""
    started = time.perf_counter()
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11]], np.float32)
    scores = np.array([[0.9, 0.1], [0.8, 0.2]], np.float32)
    for nms_type in NMS_TYPES:
        for multi_label in (False, True):
            postprocess(boxes, scores, PostprocessOptions(nms_type=nms_type, multi_label=multi_label))
    seconds = time.perf_counter() - started
    if nms.kernels().were_compiled():
        _LOG.info("compiled the post-processing in %.1f s (cached for the next run)", seconds)
    return seconds
