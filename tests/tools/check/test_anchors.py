"""Anchor recall and suggested anchors."""

import numpy as np

from msdet.tools.check.anchors import best_iou, shape_iou, suggest_anchors


def test_best_iou_equals_all_pairs():
    from msdet.models.efficientdet_d0.anchors import make_anchors

    anchors = make_anchors(128, 256)
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 1, (200, 2)) * (200, 100)
    boxes = np.concatenate([corner, corner + rng.uniform(3, 90, (200, 2))], axis=1).astype(np.float32)
    low, high = anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2
    shared = np.clip(np.minimum(high, boxes[:, None, 2:]) - np.maximum(low, boxes[:, None, :2]), 0, None).prod(2)
    union = anchors[:, 2:].prod(1) + (boxes[:, 2:] - boxes[:, :2]).prod(1)[:, None] - shared
    np.testing.assert_allclose(best_iou(boxes, anchors), (shared / union).max(1), atol=1e-5)


def test_suggested_anchors_find_clusters():
    rng = np.random.default_rng(0)
    sides = np.concatenate([np.array(centre) * rng.uniform(0.95, 1.05, (30, 2)) for centre in ((10, 20), (90, 40))])
    anchors = suggest_anchors(sides, 2)
    np.testing.assert_allclose(anchors, [[10, 20], [90, 40]], rtol=0.05)
    assert shape_iou(sides, anchors).max(1).min() > 0.8
