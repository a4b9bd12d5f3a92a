"""COCO average precision, computed exactly by hotcoco or pycocotools."""

from __future__ import annotations

import contextlib
import io
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from msdet.errors import UserError
from msdet.evaluation.coco.truth import GroundTruth, read_ground_truth
from msdet.evaluation.detection_table import DetectionTable, to_table
from msdet.files import write_csv

_LOG = logging.getLogger(__name__)

BACKENDS = ("hotcoco", "pycocotools")
SUMMARY_HEADER = "=============coco eval reulst========="  # spelled as in the documented output of these models
STAT_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
_AREAS = ("all", "small", "medium", "large")
_MAX_DETECTIONS = (1, 10, 100)
# Statistics as (is precision, IoU threshold or None = mean over .50:.95, area, detections per image and class).
_STATS = (
    (True, None, "all", 100),
    (True, 0.5, "all", 100),
    (True, 0.75, "all", 100),
    (True, None, "small", 100),
    (True, None, "medium", 100),
    (True, None, "large", 100),
    (False, None, "all", 1),
    (False, None, "all", 10),
    (False, None, "all", 100),
    (False, None, "small", 100),
    (False, None, "medium", 100),
    (False, None, "large", 100),
)


class ClassScore(NamedTuple):
    """AP and AP50 of one class, 0..1, NaN if it has no ground truth; boxes: ground-truth boxes, no crowd regions."""

    name: str
    ap: float
    ap50: float
    boxes: int


@dataclass(frozen=True)
class CocoResult:
    """COCO scores of detections.

    Attributes:
        stats: the twelve COCO statistics in the order of `STAT_NAMES`, 0..1, -1 if there is no ground truth.
        per_class: one entry per category, in the order of the category ids.
        images: number of scored images, including those without detections.
        detections: number of scored detections.
    """

    stats: tuple[float, ...]
    per_class: list[ClassScore]
    images: int
    detections: int

    @property
    def ap(self) -> float:
        """AP at IoU .50:.05:.95, all areas, 100 detections per image."""
        return self.stats[0]

    @property
    def ap50(self) -> float:
        """AP at IoU .50."""
        return self.stats[1]

    def named(self) -> dict[str, float]:
        """The twelve statistics by name."""
        return dict(zip(STAT_NAMES, self.stats, strict=True))

    @property
    def summary_text(self) -> str:
        """The header line and the twelve lines in the format of pycocotools."""
        return "\n".join([SUMMARY_HEADER, *map(_summary_line, _STATS, self.stats)])


def score_detections(
    truth: GroundTruth | Path | str,
    detections: DetectionTable | Path | str | Iterable[dict[str, Any]],
    backend: str = "hotcoco",
) -> CocoResult:
    """Scores detections against ground truth; needs neither the network nor the images.

    Every image is scored, including those without detections. Detections of unknown categories are skipped with a
    warning; pycocotools skips them silently.

    Args:
        truth: ground truth of a dataset (see `ground_truth`), or a COCO annotation file.
        detections: a table, records, or a result file.
        backend: hotcoco (about 100 times faster; pycocotools is used if it is not installed) or pycocotools.

    Raises:
        UserError: a file or a record is invalid, an image id is unknown, or all categories are unknown.
    """
    if backend not in BACKENDS:
        raise UserError(f"unknown scorer {backend!r}: choose one of {', '.join(BACKENDS)}")
    truth = truth if isinstance(truth, GroundTruth) else read_ground_truth(truth)
    rows = detection_rows(to_table(detections), truth)
    if not len(truth.boxes):
        _LOG.warning(
            "%s has no annotation in the %d scored images: every score is -1", truth.path, len(truth.image_ids)
        )
    precision, recall = _curves(truth, rows, backend)
    stats = tuple(_stat(precision, recall, stat) for stat in _STATS)
    return CocoResult(stats, _per_class(truth, precision), len(truth.image_ids), len(rows))


def detection_rows(table: DetectionTable, truth: GroundTruth) -> np.ndarray:
    """The scored detections as float64 (n, 7): [image number, x, y, w, h, score, category number].

    Raises:
        UserError: an image is unknown, or all categories are unknown.
    """
    image_numbers = {image_id: number for number, image_id in enumerate(truth.image_ids, 1)}
    category_numbers: dict[int | str, int] = {
        category_id: number for number, category_id in enumerate(truth.category_ids, 1)
    }
    for position, image in enumerate(table.image_ids):
        if image not in image_numbers and image not in truth.other_images:
            first = int(np.argmax(table.images == position))
            raise UserError(
                f"{table.source}: record {first} has image_id {image!r}, which {truth.path} does not have; do the two "
                "files belong together?"
            )
    _check_categories(table, truth, category_numbers)
    images = np.array([image_numbers.get(image, 0) for image in table.image_ids], np.int64)[table.images]
    categories = np.array([category_numbers.get(c, 0) for c in table.category_ids], np.int64)[table.categories]
    rows = np.column_stack([images, table.boxes, table.scores, categories])
    return rows[(images > 0) & (categories > 0)]


def _check_categories(table: DetectionTable, truth: GroundTruth, known: Mapping[int | str, int]) -> None:
    """Warns of detections of categories that are not in the annotations.

    Raises:
        UserError: all detections are of such categories.
    """
    counts = np.bincount(table.categories, minlength=len(table.category_ids))
    unknown = {
        category: int(count)
        for category, count in zip(table.category_ids, counts, strict=True)
        if category not in known and category not in truth.other_categories
    }
    if not unknown:
        return
    count, ids = sum(unknown.values()), sorted(unknown, key=str)
    text = f"{count} of {len(table)} detections have a category that {truth.path} does not: {ids[:10]}"
    if count == len(table):
        raise UserError(f"{table.source}: {text}; do the two files belong together?")
    _LOG.warning("%s: %s; they are skipped", table.source, text)


def _curves(truth: GroundTruth, rows: np.ndarray, backend: str) -> tuple[np.ndarray, np.ndarray]:
    """Precision (10 IoUs, 101 recalls, C, 4 areas, 3 limits) and recall (10, C, 4, 3); -1 without ground truth."""
    if backend == "hotcoco":
        try:
            import hotcoco
        except ImportError:
            _LOG.warning("hotcoco is not installed: scoring with pycocotools, which is slower (pip install hotcoco)")
        else:
            return _hotcoco_curves(hotcoco, truth, rows)
    return _pycocotools_curves(truth, rows)


def _hotcoco_curves(hotcoco: Any, truth: GroundTruth, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    reference = hotcoco.COCO.from_arrays(
        truth.image_records(),
        truth.category_records(),
        truth.images,
        truth.labels,
        truth.boxes,
        area=truth.areas,
        iscrowd=truth.iscrowd,
    )
    evaluation = hotcoco.COCOeval(reference, reference.load_res(rows), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"]), np.asarray(evaluation.eval["recall"])


def _pycocotools_curves(truth: GroundTruth, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    evaluation = pycocotools_evaluation(truth, rows)
    with contextlib.redirect_stdout(io.StringIO()):  # silences its progress output
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"], evaluation.eval["recall"]


def pycocotools_evaluation(truth: GroundTruth, rows: np.ndarray) -> Any:
    """Creates a COCOeval of ground truth and detections (see `detection_rows`) without running it."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    keys = ("image_id", "category_id", "bbox", "score", "area", "id", "iscrowd")
    columns = (rows[:, 0], rows[:, 6], rows[:, 1:5], rows[:, 5], rows[:, 3] * rows[:, 4])
    lines = zip(*(column.tolist() for column in columns), range(1, len(rows) + 1), strict=True)
    found = [dict(zip(keys, (*line, 0), strict=True)) for line in lines]
    with contextlib.redirect_stdout(io.StringIO()):
        reference, results = COCO(), COCO()
        for coco, annotations in ((reference, truth.annotation_records()), (results, found)):
            coco.dataset = {
                "images": truth.image_records(),
                "categories": truth.category_records(),
                "annotations": annotations,
            }
            coco.createIndex()
        return COCOeval(reference, results, "bbox")


def _mean(values: np.ndarray) -> float:
    """Mean of the defined values; -1 if there is none, as in pycocotools."""
    defined = values[values > -1]
    return float(np.mean(defined)) if defined.size else -1.0


def _iou_index(threshold: float) -> int:
    return round((threshold - 0.5) / 0.05)


def _stat(precision: np.ndarray, recall: np.ndarray, stat: tuple[bool, float | None, str, int]) -> float:
    is_precision, threshold, area, limit = stat
    values = (precision if is_precision else recall)[..., _AREAS.index(area), _MAX_DETECTIONS.index(limit)]
    return _mean(values if threshold is None else values[_iou_index(threshold)])


def _summary_line(stat: tuple[bool, float | None, str, int], value: float) -> str:
    is_precision, threshold, area, limit = stat
    title = "Average Precision  (AP)" if is_precision else "Average Recall     (AR)"
    iou = "0.50:0.95" if threshold is None else f"{threshold:0.2f}"
    return f" {title} @[ IoU={iou:<9} | area={area:>6s} | maxDets={limit:>3d} ] = {value:0.3f}"


def _per_class(truth: GroundTruth, precision: np.ndarray) -> list[ClassScore]:
    curves = precision[:, :, :, _AREAS.index("all"), _MAX_DETECTIONS.index(100)]
    boxes = np.bincount(truth.labels[~truth.iscrowd], minlength=len(truth.names) + 1)
    scores = []
    for index, name in enumerate(truth.names):
        ap, ap50 = _mean(curves[:, :, index]), _mean(curves[_iou_index(0.5), :, index])
        undefined = ap < 0
        scores.append(
            ClassScore(name, math.nan if undefined else ap, math.nan if undefined else ap50, int(boxes[index + 1]))
        )
    return scores


def format_per_class(result: CocoResult) -> str:
    """Formats a table with one line per class: name, ground-truth boxes, AP, AP50; `-` for a class without ground
    truth."""
    width = max([len("class"), *(len(score.name) for score in result.per_class)])
    lines = [f"{'class':<{width}}  boxes     AP   AP50"]
    for name, ap, ap50, boxes in result.per_class:
        values = ("-" if math.isnan(value) else f"{value:.3f}" for value in (ap, ap50))
        lines.append(f"{name:<{width}}  {boxes:>5}" + "".join(f"  {value:>5}" for value in values))
    return "\n".join(lines)


def write_per_class_csv(result: CocoResult, path: Path | str) -> None:
    """Writes class, boxes, AP, AP50 with all digits; the fields of a class without ground truth are empty."""
    rows = [
        [name, boxes, *("" if math.isnan(value) else repr(value) for value in (ap, ap50))]
        for name, ap, ap50, boxes in result.per_class
    ]
    write_csv(Path(path), [["class", "boxes", "AP", "AP50"], *rows])
