"""Precision-recall curve of each class, and its score threshold with the best F1."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from msdet.evaluation.coco.score import detection_rows, pycocotools_evaluation
from msdet.evaluation.coco.truth import GroundTruth
from msdet.evaluation.detection_table import DetectionTable, to_table
from msdet.files import atomic_path, write_csv
from msdet.ops.fonts import chart_fonts, drawable
from msdet.text import one_line, printable

_IOU = 0.5
_NAME_IN_FILE = 64  # characters of a class name in the name of its chart; file systems allow 255 bytes
_MAX_DETECTIONS = 100  # per image and class, as for COCO AP


class BestThreshold(NamedTuple):
    """The lowest score to keep, 0..1, with the resulting precision, recall and F1."""

    threshold: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class ClassCurve:
    """Detections of one class in order of descending score, matched at an IoU of 0.5, without those on crowd regions.

    Attributes:
        name: class name.
        boxes: number of ground-truth boxes without crowd regions.
        scores: (n,), descending.
        is_true: bool (n,): true positives.
    """

    name: str
    boxes: int
    scores: np.ndarray
    is_true: np.ndarray

    @property
    def precision(self) -> np.ndarray:
        """(n,): precision of the first 1 ... n detections."""
        return np.cumsum(self.is_true) / np.arange(1, len(self.is_true) + 1)

    @property
    def recall(self) -> np.ndarray:
        """(n,): recall of the first 1 ... n detections."""
        return np.cumsum(self.is_true) / max(self.boxes, 1)

    def best(self) -> BestThreshold | None:
        """The threshold with the best F1; None if there is no true positive."""
        if not self.is_true.any():
            return None
        precision, recall = self.precision, self.recall
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        # A threshold cannot separate detections of equal score.
        f1 = np.where(np.append(self.scores[1:] < self.scores[:-1], True), f1, -1)
        i = int(f1.argmax())
        return BestThreshold(*(float(column[i]) for column in (self.scores, precision, recall, f1)))


def class_curves(truth: GroundTruth, detections: DetectionTable | Path) -> list[ClassCurve]:
    """Matches detections with the ground truth by pycocotools; returns one curve per category, in order of the ids.

    Args:
        truth: see `ground_truth`.
        detections: a table or a COCO result file.

    Raises:
        UserError: a file or a record is invalid.
    """
    evaluation = pycocotools_evaluation(truth, detection_rows(to_table(detections), truth))
    evaluation.params.iouThrs = np.array([_IOU])
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluation.params.maxDets = [_MAX_DETECTIONS]
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        evaluation.evaluate()
    images = len(truth.image_ids)
    curves = []
    for number, name in enumerate(truth.names):
        results = [r for r in evaluation.evalImgs[number * images : (number + 1) * images] if r is not None]
        kept = [~np.asarray(r["dtIgnore"][0], bool) for r in results]
        scores = _concatenated([np.asarray(r["dtScores"])[keep] for r, keep in zip(results, kept, strict=True)])
        matches = _concatenated([r["dtMatches"][0][keep] for r, keep in zip(results, kept, strict=True)])
        boxes = sum(int((np.asarray(r["gtIgnore"]) == 0).sum()) for r in results)
        order = np.argsort(-scores, kind="stable")
        curves.append(ClassCurve(name, boxes, scores[order], matches[order] > 0))
    return curves


def _concatenated(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0)


def recommend_thresholds(truth: GroundTruth, detections: DetectionTable | Path, folder: Path) -> list[ClassCurve]:
    """Writes `thresholds.csv` (class, boxes, threshold, precision, recall, F1) and a chart of each class's curve.

    A class without a true positive has empty fields and no chart.

    Args:
        truth, detections: see `class_curves`.
        folder: output folder.

    Returns:
        the curves.
    """
    curves = class_curves(truth, detections)
    rows = [[curve.name, curve.boxes, *(f"{value:.4f}" for value in curve.best() or ())] for curve in curves]
    write_csv(folder / "thresholds.csv", [["class", "boxes", "threshold", "precision", "recall", "F1"], *rows])
    for number, curve in enumerate(curves):
        if (best := curve.best()) is not None:
            # Class names may contain characters that file names may not.
            name = re.sub(r"[^0-9A-Za-z-]+", "_", curve.name)[:_NAME_IN_FILE]
            _draw(curve, best, folder / f"{number:03d}_{name}.png")
    return curves


def _draw(curve: ClassCurve, best: BestThreshold, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with chart_fonts([curve.name]):
        figure = Figure(figsize=(5, 4), layout="constrained")
        FigureCanvasAgg(figure)
        axis = figure.subplots()
        axis.plot(curve.recall, curve.precision)
        axis.plot(best.recall, best.precision, "o", label=f"score {best.threshold:.3f}: F1 {best.f1:.3f}")
        axis.set(
            xlabel="recall",
            ylabel="precision",
            xlim=(0, 1),
            ylim=(0, 1.02),
            title=f"{drawable(one_line(printable(curve.name)))}, IoU {_IOU}",
        )
        axis.title.set_parse_math(False)
        axis.legend(loc="lower left")
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=80)
