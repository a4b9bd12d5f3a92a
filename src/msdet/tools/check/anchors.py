"""How well the anchors of a model match the boxes of a dataset, and k-means anchors that match better."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from msdet.models.recipe import DetectionRecipe

_MAX_BOXES = 5000


def anchor_recall(
    recipe: DetectionRecipe, boxes: np.ndarray, size: tuple[int, int], min_iou: float = 0.5
) -> float | None:
    """Fraction of the boxes that some anchor of the model matches; None for a model without anchors.

    Anchors that a model assigns by width and height alone are compared that way, others at their positions.

    Args:
        recipe: the model.
        boxes: float32 (n, 4) xyxy in px of the network's input.
        size: (h, w) of the input.
        min_iou: minimum IoU of a match.
    """
    if not len(boxes):
        return None
    if len(boxes) > _MAX_BOXES:
        boxes = boxes[np.random.default_rng(0).permutation(len(boxes))[:_MAX_BOXES]]
    shapes, anchors = recipe.anchor_sizes(), recipe.anchors(size)
    if shapes is not None:
        best = shape_iou(boxes[:, 2:] - boxes[:, :2], shapes).max(axis=1)
    elif anchors is not None:
        best = best_iou(boxes, anchors)
    else:
        return None
    return float((best >= min_iou).mean())


def shape_iou(shapes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """IoU (n, k) of widths and heights (n, 2) and (k, 2) with a common centre."""
    shared = np.minimum(shapes[:, None], anchors[None]).prod(axis=2)
    return shared / np.maximum(shapes.prod(axis=1)[:, None] + anchors.prod(axis=1)[None] - shared, 1e-9)


def best_iou(boxes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """float32 (n,): largest IoU of each box (n, 4) xyxy with the anchors (A, 4) as centre and size.

    Anchors of one shape form a grid, and the one nearest to the centre of a box has the largest IoU; so a box is
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
    """The sorted value nearest to each wanted value."""
    above = np.searchsorted(sorted_values, wanted).clip(0, len(sorted_values) - 1)
    below = (above - 1).clip(0)
    low, high = sorted_values[below], sorted_values[above]
    return np.where(np.abs(wanted - low) <= np.abs(high - wanted), low, high)


def suggest_anchors(sides: np.ndarray, count: int, min_iou: float = 0.5, trials: int = 10) -> np.ndarray:
    """Anchors (count, 2) as width and height, sorted by area: the best of several runs of k-means with the distance
    1 - IoU (YOLO9000, section 2).

    Args:
        sides: (n, 2) widths and heights of the boxes in px of the input.
        count: number of anchors.
        min_iou: minimum IoU of a match.
        trials: number of k-means runs, with seeds 0, 1, ...
    """
    sides = np.asarray(sides, np.float64)
    if len(sides) > _MAX_BOXES:
        sides = sides[np.random.default_rng(0).permutation(len(sides))[:_MAX_BOXES]]
    found = [_k_means(sides, count, np.random.default_rng(seed)) for seed in range(trials)]
    best = max(found, key=lambda centres: (shape_iou(sides, centres).max(axis=1) >= min_iou).mean())
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
