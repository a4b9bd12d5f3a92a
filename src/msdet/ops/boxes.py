"""Boxes as numpy arrays: conversions, areas, overlaps, clipping.

Three formats, always in the last axis: `xyxy` (left, top, right, bottom), `xywh` (left, top, width, height) and
`cxcywh` (centre, width, height). Coordinates are continuous: a box from 0 to 10 has width 10, without "+ 1".
"""

from __future__ import annotations

import numpy as np


def xywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """Converts (..., 4) left, top, width, height to corners; the dtype is kept."""
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def xyxy_to_xywh(boxes: np.ndarray) -> np.ndarray:
    """Converts (..., 4) corners to left, top, width, height; the dtype is kept."""
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def cxcywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """Converts (..., 4) centre, width, height to corners; floating dtypes only."""
    half = boxes[..., 2:] / 2
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


def xyxy_to_cxcywh(boxes: np.ndarray) -> np.ndarray:
    """Converts (..., 4) corners to centre, width, height; floating dtypes only. The centre is not rounded."""
    return np.concatenate([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], axis=-1)


def box_area(boxes: np.ndarray) -> np.ndarray:
    """Areas (...) of xyxy boxes (..., 4); 0 if right < left or bottom < top."""
    sides = np.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def intersection_matrix(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection areas (n, m) of xyxy boxes `first` (n, 4) and `second` (m, 4)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = np.maximum(high - low, 0)
    return sides[..., 0] * sides[..., 1]


def iou_matrix(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union (n, m), in [0, 1], of xyxy boxes `first` (n, 4) and `second` (m, 4).

    Two boxes without area have IoU 0.
    """
    shared = intersection_matrix(first, second)
    union = box_area(first)[:, None] + box_area(second)[None, :] - shared
    return np.divide(
        shared, union, out=np.zeros_like(shared, dtype=np.result_type(shared, np.float32)), where=union > 0
    )


def clip_boxes(boxes: np.ndarray, width: float, height: float) -> np.ndarray:
    """Clips xyxy boxes (..., 4) to an image of `width` x `height` pixels; a box outside it collapses onto its edge."""
    limit = np.array([width, height, width, height], dtype=boxes.dtype)
    return np.clip(boxes, 0, limit)
