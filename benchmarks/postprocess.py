"""Milliseconds of post-processing an image against plain numpy:
`python benchmarks/run.py postprocess`.

The baseline is a common implementation: threshold and argmax by numpy, then for every class a loop that keeps the
best box and drops the boxes that overlap it. Both give the same detections, which is checked before anything is timed.
The inputs are synthetic: clusters of boxes around objects on a background of low scores, or (dense) random scores that
all pass the threshold, as from an untrained network.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.report import VALUE, Goal, Options, Result
from benchmarks.side_by_side import alternate_all
from msdet.ops.postprocess import Detections, PostprocessOptions, postprocess, warm_up

YOLO = PostprocessOptions(0.001, 0.5, max_detections=300)
YOLO_DIOU = PostprocessOptions(0.001, 0.6, nms_type="diou", max_detections=300)
EFFICIENTDET = PostprocessOptions(0.05, 0.5, max_detections=100)
REFINEDET = PostprocessOptions(0.01, 0.45, max_detections=500, pre_nms_top_k_per_class=1000, multi_label=True)

OURS, PLAIN = "postprocess (numba)", "numpy, loop over classes"
# Case -> goal in milliseconds per image.
GOALS = {"YOLO 22,743 x 80": 1.2, "YOLO 22,743 x 80, dense": 2.0}


def measure(options: Options) -> Result:
    """Measures all cases."""
    result = Result()
    warm_up()
    for name, boxes, scores, how in cases():
        found = postprocess(boxes, scores, how)
        assert_same(found, plain_postprocess(boxes, scores, how))
        best = scores if how.multi_label else scores.max(axis=1)
        candidates = int((best > np.float32(how.score_threshold)).sum())
        seconds = alternate_all(
            {
                OURS: lambda b=boxes, s=scores, o=how: postprocess(b, s, o),
                PLAIN: lambda b=boxes, s=scores, o=how: plain_postprocess(b, s, o),
            },
            options.count(15),
        )
        what = f"post-processing an image, {name}"
        goals = [Goal(VALUE, at_most=GOALS[name])] if name in GOALS else []
        note = f"{candidates:,} candidates, {len(found)} kept"
        result.compare(what, "ms", result.keep(what, seconds, 1000), OURS, PLAIN, goals, note)
        if options.quick:
            break
    result.notes.append("Post-processing: the detections of both are equal in every case.")
    return result


def plain_nms(boxes: np.ndarray, threshold: float, with_distance: bool = False) -> list[int]:
    """Greedy NMS of boxes (n, 4) in order of descending score, by IoU or DIoU; returns the kept indices."""
    x1, y1, x2, y2 = boxes.astype(np.float64).T
    areas = (x2 - x1) * (y2 - y1)
    order, kept = np.arange(len(boxes)), []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        width = np.minimum(x2[best], x2[rest]) - np.maximum(x1[best], x1[rest])
        height = np.minimum(y2[best], y2[rest]) - np.maximum(y1[best], y1[rest])
        inter = np.maximum(width, 0) * np.maximum(height, 0)
        overlap = inter / (areas[best] + areas[rest] - inter)
        if with_distance:
            dx, dy = (x1[best] + x2[best] - x1[rest] - x2[rest]) / 2, (y1[best] + y2[best] - y1[rest] - y2[rest]) / 2
            around_w = np.maximum(x2[best], x2[rest]) - np.minimum(x1[best], x1[rest])
            around_h = np.maximum(y2[best], y2[rest]) - np.minimum(y1[best], y1[rest])
            overlap = overlap - (dx * dx + dy * dy) / (around_w * around_w + around_h * around_h)
        order = rest[overlap <= threshold]
    return kept


def plain_postprocess(boxes: np.ndarray, scores: np.ndarray, options: PostprocessOptions) -> Detections:
    """The same result as `postprocess` (greedy or diou), by numpy and a loop over the classes."""
    if options.multi_label:
        index, labels = np.nonzero(scores > np.float32(options.score_threshold))
    else:
        index = np.flatnonzero(scores.max(axis=1) > np.float32(options.score_threshold))
        labels = scores[index].argmax(axis=1)
    values = scores[index, labels]
    kept = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        members = members[np.argsort(-values[members], kind="stable")][: options.pre_nms_top_k_per_class or None]
        kept.append(members[plain_nms(boxes[index[members]], options.nms_threshold, options.nms_type == "diou")])
    chosen = np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.int64)
    chosen = chosen[np.argsort(-values[chosen], kind="stable")][: options.max_detections or None]
    return Detections(boxes[index[chosen]], values[chosen], labels[chosen].astype(np.int32))


def synthetic_outputs(count: int, classes: int, background: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (count,4) and scores (count,classes): 8 objects with 40 boxes each, scores below `background` elsewhere."""
    rng = np.random.default_rng(seed)
    centres, sizes = rng.uniform(0, 500, (count, 2)), rng.uniform(10, 200, (count, 2))
    scores = rng.random((count, classes), dtype=np.float32) * np.float32(background)
    for _ in range(8):
        cluster = rng.integers(0, count, 40)
        centres[cluster] = rng.uniform(50, 450, 2) + rng.normal(0, 6, (40, 2))
        sizes[cluster] = rng.uniform(30, 200, 2) * rng.uniform(0.8, 1.25, (40, 2))
        scores[cluster, rng.integers(0, classes)] = rng.uniform(0.05, 0.99, 40)
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1).astype(np.float32), scores


def cases() -> Iterator[tuple[str, np.ndarray, np.ndarray, PostprocessOptions]]:
    """Name, boxes, scores and options of each measured case."""
    yield "YOLO 22,743 x 80", *synthetic_outputs(22743, 80, 0.0009), YOLO
    yield "YOLO 22,743 x 80, dense", *synthetic_outputs(22743, 80, 1.0), YOLO
    yield "YOLO 22,743 x 80, DIoU", *synthetic_outputs(22743, 80, 0.0009), YOLO_DIOU
    yield "YOLO 22,743 x 80, DIoU, dense", *synthetic_outputs(22743, 80, 1.0), YOLO_DIOU
    yield "EfficientDet 49,104 x 90", *synthetic_outputs(49104, 90, 0.04), EFFICIENTDET
    yield "EfficientDet 49,104 x 90, dense", *synthetic_outputs(49104, 90, 1.0), EFFICIENTDET
    boxes, scores = synthetic_outputs(6375, 80, 1.0)
    yield "RefineDet 6,375 x 80 at 0.01", boxes, (scores**25).astype(np.float32), REFINEDET


def assert_same(found: Detections, expected: Detections) -> None:
    """Raises an AssertionError when two results differ."""
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
