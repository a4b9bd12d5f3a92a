"""Non-maximum suppression: class-aware greedy NMS, DIoU-NMS and soft-NMS, compiled by numba.

Boxes are xyxy in pixels with continuous coordinates: the width is x2 - x1, without "+ 1". Candidates are ordered by
descending score, equal scores by ascending index, so results are the same on every machine. numba is imported by the
first call.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

NO_LIMIT = 0
_HUGE = np.iinfo(np.int64).max


def kernels() -> ModuleType:
    """The compiled loops; the first call imports numba."""
    from msdet.ops import nms_kernels

    return nms_kernels


def readonly(array: np.ndarray, dtype: type) -> np.ndarray:
    """`array` as a read-only, C-contiguous array of `dtype`, copied only if it has to be.

    numba compiles once per combination of argument types, and "read-only" is part of the type: passing all arrays in
    this way means a single compilation.
    """
    view = np.require(array, dtype, ["C", "A"]).view()
    view.flags.writeable = False
    return view


def descending_order(scores: np.ndarray) -> np.ndarray:
    """Indices (n,) int64 that sort finite scores (n,) in descending order; the sort is stable."""
    return kernels().descending_order(readonly(scores, np.float32))


def greedy_nms(
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    threshold: float,
    *,
    distance: bool = False,
    top_k: int = NO_LIMIT,
    top_k_per_class: int = NO_LIMIT,
    max_detections: int = NO_LIMIT,
    max_per_class: int = NO_LIMIT,
    box_index: np.ndarray | None = None,
) -> np.ndarray:
    """Greedy class-aware NMS: drops boxes that overlap a kept box of the same class with a higher score.

    Args:
        boxes: (n,4) float32 xyxy px, finite.
        scores: (n,) float32, finite.
        labels: (n,) integers >= 0; boxes of different labels do not suppress each other.
        threshold: 0..1; a box is dropped if its IoU with a kept box is greater.
        distance: DIoU-NMS (Zheng et al. 2020, "Distance-IoU Loss", section 3.4): IoU minus the squared distance of the
            centres over the squared diagonal of the enclosing box is compared instead of the IoU.
        top_k, top_k_per_class: maximum number of candidates per image and per class, the best ones (0 = all).
        max_detections, max_per_class: maximum number of kept boxes per image and per class (0 = all).
        box_index: (n,) row of `boxes` of each candidate, if one box is a candidate for several classes.

    Returns:
        indices (m,) int64 of the kept candidates in descending order of score.
    """
    _, labels, order, classes, index = _candidates(scores, labels, boxes, box_index)
    limits = _limits(top_k, top_k_per_class, max_detections, max_per_class)
    return kernels().greedy(
        readonly(boxes, np.float32),
        index,
        labels,
        readonly(order, np.int64),
        classes,
        float(threshold),
        distance,
        limits,
    )


def soft_nms(
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    *,
    sigma: float = 0.5,
    threshold: float = 0.5,
    min_score: float = 0.0,
    top_k: int = NO_LIMIT,
    top_k_per_class: int = NO_LIMIT,
    max_detections: int = NO_LIMIT,
    max_per_class: int = NO_LIMIT,
    box_index: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Class-aware soft-NMS: decays the scores of boxes that overlap a box of the same class with a higher score.

    Bodla et al. 2017, "Soft-NMS: improving object detection with one line of code", section 3.

    Args:
        sigma: > 0: gaussian, factor exp(-IoU^2 / sigma). 0: linear, factor 1 - IoU where the IoU is above `threshold`.
        threshold: used by the linear decay only.
        min_score: a candidate is dropped unless its decayed score is greater.
        others: see `greedy_nms`.

    Returns:
        indices (m,) int64 of the kept candidates and their decayed scores (m,) float32, in descending order.
    """
    boxes = readonly(boxes, np.float32)
    values, labels, order, classes, index = _candidates(scores, labels, boxes, box_index)
    limits = _limits(top_k, top_k_per_class, max_detections, max_per_class)
    options = (float(threshold), float(sigma), np.float32(min_score), limits)
    kept, decayed = kernels().soft(boxes, index, labels, values, order, classes, *options)
    return kept, decayed.astype(np.float32)


def _candidates(
    scores: np.ndarray, labels: np.ndarray, boxes: np.ndarray, box_index: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, np.ndarray]:
    values = readonly(scores, np.float32)
    labels = readonly(labels, np.int32)
    index = readonly(np.arange(len(boxes)) if box_index is None else box_index, np.int64)
    if not len(values) == len(labels) == len(index):
        raise ValueError(f"{len(index)} boxes, {len(values)} scores and {len(labels)} labels differ in number")
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must have the shape (n,4), got {boxes.shape}")
    # Compiled code does not check indices: a wrong one would read out of bounds.
    if len(labels) and (labels.min() < 0 or index.min() < 0 or index.max() >= len(boxes)):
        raise ValueError("a label is negative, or box_index points outside of boxes")
    classes = int(labels.max()) + 1 if len(labels) else 1
    return values, labels, readonly(descending_order(values), np.int64), classes, index


def _limits(*limits: int) -> np.ndarray:
    """(4,) int64 with 0 (no limit) replaced by the largest integer."""
    return readonly(np.array([limit if limit > 0 else _HUGE for limit in limits]), np.int64)
