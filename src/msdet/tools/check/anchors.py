"""How well the anchors of a model meet the boxes of a data set, and anchors that would meet them better."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from msdet.models.refinedet.config import RefineDetConfig

if TYPE_CHECKING:
    from msdet.config import Config

_MOST_BOXES = 5000


def anchor_recall(cfg: Config, boxes: np.ndarray, size: tuple[int, int], least_iou: float = 0.5) -> float | None:
    """Share of boxes that some anchor of the model overlaps by at least an IoU; None for a model without anchors.

    The anchors of YOLO are compared by width and height alone, as its matching does; those of EfficientDet and
    RefineDet at their places.

    Args:
        cfg: of the model.
        boxes: float32 (n, 4) xyxy in px of the network's input.
        size: (h, w) of the input.
        least_iou: that counts as a match.
    """
    if not len(boxes):
        return None
    if len(boxes) > _MOST_BOXES:
        boxes = boxes[np.random.default_rng(0).permutation(len(boxes))[:_MOST_BOXES]]
    if hasattr(cfg, "anchors"):
        best = shape_iou(boxes[:, 2:] - boxes[:, :2], np.array(cfg.anchors, np.float64)).max(axis=1)
        return float((best >= least_iou).mean())
    anchors = _placed_anchors(cfg, size)
    if anchors is None:
        return None
    return float((best_iou(boxes, anchors) >= least_iou).mean())


def _placed_anchors(cfg: Config, size: tuple[int, int]) -> np.ndarray | None:
    """float32 (A, 4) centre x, centre y, width, height in px of the input."""
    if cfg.model.startswith("efficientdet"):
        from msdet.models.efficientdet_d0 import anchors as efficientdet

        return efficientdet.make_anchors(*size)
    if isinstance(cfg, RefineDetConfig):
        from msdet.models.refinedet import anchors as refinedet

        return refinedet.make_anchors(*size, cfg.clip_anchors)
    return None


def shape_iou(shapes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """IoU (n, k) of widths and heights (n, 2) and (k, 2) laid on one centre."""
    shared = np.minimum(shapes[:, None], anchors[None]).prod(axis=2)
    return shared / np.maximum(shapes.prod(axis=1)[:, None] + anchors.prod(axis=1)[None] - shared, 1e-9)


def best_iou(boxes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """float32 (n,): largest IoU of each box (n, 4) xyxy with the anchors (A, 4) as centre and size.

    Anchors of one shape stand on a grid, and of those the one nearest to a box's centre overlaps it most; so a box is
    compared with one anchor of each shape.
    """
    centre, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    best = np.zeros(len(boxes), np.float32)
    shapes, shape_of = np.unique(anchors[:, 2:], axis=0, return_inverse=True)
    for number, shape in enumerate(shapes):
        some = anchors[shape_of.ravel() == number]
        distance = np.stack([np.abs(centre[:, k] - _nearest(np.unique(some[:, k]), centre[:, k])) for k in range(2)], 1)
        shared = np.clip(np.minimum(np.minimum(sides, shape), (sides + shape) / 2 - distance), 0, None).prod(axis=1)
        union = np.maximum(sides.prod(axis=1) + shape.prod() - shared, 1e-9)
        best = np.maximum(best, shared / union)
    return best


def _nearest(sorted_values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value nearest to each wanted one."""
    above = np.searchsorted(sorted_values, wanted).clip(0, len(sorted_values) - 1)
    below = (above - 1).clip(0)
    low, high = sorted_values[below], sorted_values[above]
    return np.where(np.abs(wanted - low) <= np.abs(high - wanted), low, high)


def suggest_anchors(sides: np.ndarray, count: int, least_iou: float = 0.5, trials: int = 10) -> np.ndarray:
    """Anchors (count, 2) as width and height, by area: of several k-means under the distance 1 - IoU (YOLO9000,
    section 2) the one that meets most boxes.

    Args:
        sides: (n, 2) widths and heights of the boxes in px of the input.
        count: how many.
        least_iou: that counts as a match.
        trials: runs of k-means, from seeds 0, 1, ...
    """
    sides = np.asarray(sides, np.float64)
    if len(sides) > _MOST_BOXES:
        sides = sides[np.random.default_rng(0).permutation(len(sides))[:_MOST_BOXES]]
    found = [_k_means(sides, count, np.random.default_rng(seed)) for seed in range(trials)]
    best = max(found, key=lambda centres: (shape_iou(sides, centres).max(axis=1) >= least_iou).mean())
    return best[np.argsort(best.prod(axis=1))]


def _k_means(sides: np.ndarray, count: int, rng: np.random.Generator, rounds: int = 100) -> np.ndarray:
    centres = sides[rng.integers(len(sides))][None]
    while len(centres) < count:
        distance = (1 - shape_iou(sides, centres).max(axis=1)) ** 2
        total = distance.sum()
        chosen = rng.choice(len(sides), p=distance / total) if total > 0 else rng.integers(len(sides))
        centres = np.concatenate([centres, sides[chosen][None]])
    nearest = np.full(len(sides), -1)
    for _ in range(rounds):
        assigned = shape_iou(sides, centres).argmax(axis=1)
        if (assigned == nearest).all():
            break
        nearest = assigned
        for k in range(count):
            if (nearest == k).any():
                centres[k] = sides[nearest == k].mean(axis=0)
    return centres
