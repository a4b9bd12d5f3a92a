"""Numba kernels of `msdet.ops.nms`. Importing this module imports numba (0.8 s), so only `msdet.ops.nms` imports it.

The first call of a kernel compiles it (seconds) and caches the machine code: in `$NUMBA_CACHE_DIR` if set, else in
`__pycache__` next to this file, else in the user's cache folder, and nowhere if none is writable. All kernels release
the GIL and take read-only, C-contiguous arrays, so that each is compiled exactly once. IoU is computed in float64 from
float32 coordinates without reordering of the arithmetic: results are the same on every CPU.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

_LOG = logging.getLogger(__name__)

_RADIX_BITS = 11
_RADIX = 1 << _RADIX_BITS
_MAGNITUDE = np.int32(0x7FFFFFFF)  # all bits of a float32 except its sign
_INFINITE = np.int32(0x7F800000)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`numba.njit` with an on-disk cache if one is writable, else without."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError as error:  # no writable cache folder
        _LOG.debug("compiled code of %s is not cached: %s", function.__name__, error)
        return numba.njit(nogil=True)(function)


@compiled
def best_class(
    boxes: np.ndarray, scores: np.ndarray, threshold: np.float32
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, int]:
    """The best class of each box if its score passes the threshold, in ascending order of the box.

    Args:
        boxes: (K,4) float32. scores: (K,C) float32. threshold: float32 >= 0; a score passes if it is greater.

    Returns:
        index (n,) int64, labels (n,) int32, values (n,) float32, the first box with a non-finite score and the first
        candidate with a non-finite coordinate (-1 = none). Of equal scores the lowest class wins.
    """
    count, classes = scores.shape
    bits = scores.view(np.int32)
    threshold_bits = np.float32(threshold).view(np.int32)
    index = np.empty(count, np.int64)
    labels = np.empty(count, np.int32)
    values = np.empty(count, np.float32)
    n = 0
    for k in range(count):
        # One branch-free pass over the row, which the compiler vectorises: without their sign bit floats sort like
        # integers, and infinity and NaN sort above all numbers. Only rows that pass are processed further.
        largest = np.int32(0)
        for c in range(classes):
            magnitude = np.int32(bits[k, c] & _MAGNITUDE)
            if magnitude > largest:
                largest = magnitude
        if largest <= threshold_bits:
            continue
        if largest >= _INFINITE:
            return index[:0], labels[:0], values[:0], k, -1
        best = 0
        while best < classes and bits[k, best] != largest:
            best += 1
        if best == classes:  # the largest magnitude belongs to a negative score
            best = int(np.argmax(scores[k]))
            if not scores[k, best] > threshold:
                continue
        for j in range(4):
            if not math.isfinite(boxes[k, j]):
                return index[:0], labels[:0], values[:0], -1, k
        index[n], labels[n], values[n] = k, best, scores[k, best]
        n += 1
    return index[:n], labels[:n], values[:n], -1, -1


@compiled
def all_classes(
    boxes: np.ndarray, scores: np.ndarray, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, int]:
    """All (box, class) pairs whose score passes the threshold of the box, in ascending order of box, then class.

    Args:
        boxes: (K,4) float32. scores: (K,C) float32. thresholds: (K,) float32, not negative.

    Returns:
        see `best_class`.
    """
    count, classes = scores.shape
    passing = np.empty(count, np.int32)
    n = 0
    for k in range(count):
        hits = 0
        for c in range(classes):
            hits += not (abs(scores[k, c]) <= thresholds[k])
        passing[k] = hits
        n += hits
    index = np.empty(n, np.int64)
    labels = np.empty(n, np.int32)
    values = np.empty(n, np.float32)
    n = 0
    for k in range(count):
        if passing[k] == 0:
            continue
        first = n
        for c in range(classes):
            value = scores[k, c]
            if value > thresholds[k] and value != np.inf:
                index[n], labels[n], values[n] = k, c, value
                n += 1
            elif not math.isfinite(value):
                return index[:0], labels[:0], values[:0], k, -1
        for j in range(4):
            if n > first and not math.isfinite(boxes[k, j]):
                return index[:0], labels[:0], values[:0], -1, k
    return index[:n], labels[:n], values[:n], -1, -1


@compiled
def descending_order(scores: np.ndarray) -> np.ndarray:
    """Indices (n,) int64 that sort finite float32 scores in descending order; the sort is stable.

    A radix sort of the bit patterns in three passes.
    """
    n = scores.shape[0]
    keys = np.empty(n, np.uint32)
    for i in range(n):
        bits = np.float32(scores[i] + np.float32(0)).view(np.uint32)  # + 0 makes -0 and 0 one value
        # Bits of positive floats sort like their values, those of negative floats in reverse; all inverted to descend.
        keys[i] = bits if bits & np.uint32(0x80000000) else ~(bits | np.uint32(0x80000000))
    order = np.arange(n)
    spare = np.empty(n, np.int64)
    starts = np.empty(_RADIX, np.int64)
    for shift in (0, _RADIX_BITS, 2 * _RADIX_BITS):
        starts[:] = 0
        for i in range(n):
            starts[(keys[i] >> shift) & (_RADIX - 1)] += 1
        total = 0
        for digit in range(_RADIX):
            here = starts[digit]
            starts[digit] = total
            total += here
        for i in range(n):
            digit = (keys[order[i]] >> shift) & (_RADIX - 1)
            spare[starts[digit]] = order[i]
            starts[digit] += 1
        order, spare = spare, order
    return order


@compiled
def _box(boxes: np.ndarray, k: int) -> tuple[float, float, float, float]:
    """Corners of box k as float64."""
    left, top, right, bottom = boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3]
    # The stubs of NumPy 1 do not declare float64 as a float.
    return np.float64(left), np.float64(top), np.float64(right), np.float64(bottom)  # type: ignore[return-value]


@compiled
def _overlap(boxes: np.ndarray, i: int, others: np.ndarray, j: int) -> float:
    """IoU of box i of `boxes` and box j of `others`, float64; 0 if they do not overlap or have no area."""
    ax1, ay1, ax2, ay2 = _box(boxes, i)
    bx1, by1, bx2, by2 = _box(others, j)
    width = min(ax2, bx2) - max(ax1, bx1)
    height = min(ay2, by2) - max(ay1, by1)
    if width <= 0 or height <= 0:
        return 0.0
    inter = width * height
    return inter / ((ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - inter)


@compiled
def _distance(boxes: np.ndarray, i: int, others: np.ndarray, j: int) -> float:
    """Squared distance of the centres over the squared diagonal of the enclosing box (DIoU), 0..1."""
    ax1, ay1, ax2, ay2 = _box(boxes, i)
    bx1, by1, bx2, by2 = _box(others, j)
    dx = (ax1 + ax2 - bx1 - bx2) / 2
    dy = (ay1 + ay2 - by1 - by2) / 2
    width = max(ax2, bx2) - min(ax1, bx1)
    height = max(ay2, by2) - min(ay1, by1)
    diagonal = width * width + height * height
    return (dx * dx + dy * dy) / diagonal if diagonal > 0 else 0.0


@compiled
def greedy(
    boxes: np.ndarray,
    index: np.ndarray,
    labels: np.ndarray,
    order: np.ndarray,
    classes: int,
    threshold: float,
    with_distance: bool,
    limits: np.ndarray,
) -> np.ndarray:
    """Class-aware greedy suppression of candidates in `order`; stops when the limit of the image is reached.

    Args:
        boxes: (K,4) float32. index: (n,) int64, the box of each candidate. labels: (n,) int32 in 0..classes-1.
        order: (n,) int64, candidates in descending order of score. with_distance: subtract the DIoU term from the IoU.
        limits: (4,) int64: candidates per image, candidates per class, kept per image, kept per class.

    Returns:
        kept candidates (m,) int64, in `order`.
    """
    top_k, class_top_k, max_kept, class_max = limits
    count = min(order.shape[0], top_k)
    seen = np.zeros(classes, np.int64)
    kept_of_class = np.zeros(classes, np.int64)
    newest = np.full(classes, -1, np.int64)  # the kept candidates of a class form a linked list through `older`
    older = np.empty(min(count, max_kept), np.int64)
    kept = np.empty(min(count, max_kept), np.int64)
    corners = np.empty((min(count, max_kept), 4), np.float32)  # of the kept boxes, contiguous in memory
    n = 0
    for rank in range(count):
        if n >= max_kept:
            break
        candidate = order[rank]
        label = labels[candidate]
        seen[label] += 1
        if seen[label] > class_top_k or kept_of_class[label] >= class_max:
            continue
        k = index[candidate]
        other = newest[label]
        while other >= 0:
            overlap = _overlap(corners, other, boxes, k)
            if overlap > threshold and with_distance:
                overlap -= _distance(corners, other, boxes, k)
            if overlap > threshold:
                break
            other = older[other]
        if other < 0:
            kept[n], older[n] = candidate, newest[label]
            newest[label] = n
            corners[n] = boxes[k]
            kept_of_class[label] += 1
            n += 1
    return kept[:n]


@compiled
def _sift_down(scores: np.ndarray, ranks: np.ndarray, size: int) -> None:
    """Restores the max-heap after its root has changed; of equal scores the lower rank is on top."""
    score, rank = scores[0], ranks[0]
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= size:
            break
        right = child + 1
        if right < size and (
            scores[right] > scores[child] or (scores[right] == scores[child] and ranks[right] < ranks[child])
        ):
            child = right
        if scores[child] < score or (scores[child] == score and ranks[child] > rank):
            break
        scores[parent], ranks[parent] = scores[child], ranks[child]
        parent = child
    scores[parent], ranks[parent] = score, rank


@compiled
def _limit_candidates(labels: np.ndarray, order: np.ndarray, classes: int, top_k: int, class_top_k: int) -> np.ndarray:
    """The first `top_k` of `order`, of these at most the first `class_top_k` of each class."""
    seen = np.zeros(classes, np.int64)
    chosen = np.empty(min(order.shape[0], top_k), np.int64)
    n = 0
    for rank in range(chosen.shape[0]):
        label = labels[order[rank]]
        seen[label] += 1
        if seen[label] <= class_top_k:
            chosen[n] = order[rank]
            n += 1
    return chosen[:n]


@compiled
def _decayed_score(score: float, boxes: np.ndarray, winner: int, k: int, threshold: float, sigma: float) -> float:
    """Score of box k after decay by its overlap with the selected box `winner`."""
    overlap = _overlap(boxes, winner, boxes, k)
    if sigma > 0:
        return score * math.exp(-(overlap * overlap) / sigma)
    return score * (1 - overlap) if overlap > threshold else score


@compiled
def _append(item: int, label: int, first: np.ndarray, last: np.ndarray, newer: np.ndarray) -> None:
    """Appends an item to the linked list of its class, which runs from `first` through `newer` to `last`."""
    if last[label] < 0:
        first[label] = item
    else:
        newer[last[label]] = item
    last[label] = item


@compiled
def soft(
    boxes: np.ndarray,
    index: np.ndarray,
    labels: np.ndarray,
    values: np.ndarray,
    order: np.ndarray,
    classes: int,
    threshold: float,
    sigma: float,
    min_score: np.float32,
    limits: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Class-aware soft-NMS: repeatedly selects the best candidate and decays the scores of the others of its class.

    The score of a candidate is updated lazily, when it reaches the top of a heap. Scores only decrease, so a top whose
    score is up to date is the true maximum. Factors are multiplied in the order of selection, as in plain soft-NMS.

    Args:
        boxes, index, labels, order, classes, limits: see `greedy`. values: (n,) float32 scores.
        threshold, sigma: see `soft_nms`. min_score: a candidate is dropped unless its score is greater.

    Returns:
        kept candidates (m,) int64 and their scores (m,) float64, in descending order of score.
    """
    top_k, class_top_k, max_kept, class_max = limits
    chosen = _limit_candidates(labels, order, classes, top_k, class_top_k)
    size = chosen.shape[0]
    room = min(size, max_kept)
    scores = values[chosen].astype(np.float64)  # in descending order, hence already a heap
    ranks = np.arange(size)
    seen = np.full(size, -1, np.int64)  # the last winner with which a candidate was compared
    first = np.full(classes, -1, np.int64)
    last = np.full(classes, -1, np.int64)
    newer = np.full(room, -1, np.int64)
    kept_of_class = np.zeros(classes, np.int64)
    kept, kept_scores = np.empty(room, np.int64), np.empty(room, np.float64)
    n = 0
    while size > 0 and n < max_kept:
        rank, score = ranks[0], scores[0]
        candidate = chosen[rank]
        label = labels[candidate]
        winner = first[label] if seen[rank] < 0 else newer[seen[rank]]
        current = score
        while winner >= 0 and current > min_score:
            current = _decayed_score(current, boxes, index[kept[winner]], index[candidate], threshold, sigma)
            seen[rank], winner = winner, newer[winner]
        stays = current > min_score and kept_of_class[label] < class_max
        if stays and current == score:
            kept[n], kept_scores[n] = candidate, current
            _append(n, label, first, last, newer)
            kept_of_class[label] += 1
            n += 1
            stays = False
        scores[0] = current
        if not stays:
            size -= 1
            scores[0], ranks[0] = scores[size], ranks[size]
        if size > 0:
            _sift_down(scores, ranks, size)
    return kept[:n], kept_scores[:n]


def were_compiled() -> bool:
    """Whether this process has compiled a kernel instead of loading it from the cache."""
    kernels = [value for value in globals().values() if hasattr(value, "stats") and hasattr(value, "py_func")]
    return any(kernel.stats.cache_misses for kernel in kernels)
