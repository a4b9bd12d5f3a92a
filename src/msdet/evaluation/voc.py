"""PASCAL VOC mean average precision (Everingham et al., 2010, section 4.2), by 11 points or all points."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from msdet.errors import UserError
from msdet.evaluation.detection_table import DetectionTable, to_table
from msdet.ops.boxes import iou_matrix, xywh_to_xyxy

if TYPE_CHECKING:
    from msdet.data.dataset import DetectionDataset


class ImageObjects(NamedTuple):
    """Objects of one class in one image: boxes (n, 4) xyxy px; ignored, bool (n,): difficult objects and crowd regions,
    which count neither as objects nor, for a detection that matches them, as a false positive."""

    boxes: np.ndarray
    ignored: np.ndarray


class ImageDetections(NamedTuple):
    """Detections of one class in one image: boxes (n, 4) xyxy px, scores (n,)."""

    boxes: np.ndarray
    scores: np.ndarray


class VocClassScore(NamedTuple):
    """AP of one class, 0..1, NaN if it has no object; objects: number of objects without ignored ones."""

    name: str
    ap_11: float
    ap_all: float
    objects: int


@dataclass(frozen=True)
class VocResult:
    """VOC scores of detections.

    Attributes:
        per_class: one entry per class, in label order.
        metric: which of the two means is the score.
        iou: lowest IoU of a match.
    """

    per_class: list[VocClassScore]
    metric: str = "11_points"
    iou: float = 0.5

    @property
    def map_11(self) -> float:
        """11-point mAP over the classes that have objects; NaN if none has."""
        return _mean([score.ap_11 for score in self.per_class])

    @property
    def map_all(self) -> float:
        """All-point mAP over the classes that have objects; NaN if none has."""
        return _mean([score.ap_all for score in self.per_class])

    @property
    def score(self) -> float:
        """The mAP selected by `metric`."""
        return self.map_11 if self.metric == "11_points" else self.map_all

    @property
    def summary_text(self) -> str:
        """A table with one line per class, and the two means."""
        width = max([len("class"), *(len(score.name) for score in self.per_class)])
        lines = [f"VOC average precision at IoU {self.iou:g}", f"{'class':<{width}}  objects  11 points  all points"]
        for name, *values, objects in self.per_class:
            ap_11, ap_all = ("-" if math.isnan(value) else f"{value:.4f}" for value in values)
            lines.append(f"{name:<{width}}  {objects:>7}  {ap_11:>9}  {ap_all:>10}")
        return "\n".join([*lines, f"{'mean':<{width}}  {'':>7}  {self.map_11:>9.4f}  {self.map_all:>10.4f}"])


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan


def score_voc(
    dataset: DetectionDataset,
    detections: DetectionTable | Path | str | Iterable[Mapping[str, Any]],
    metric: str = "11_points",
    iou: float = 0.5,
) -> VocResult:
    """Scores detections against a dataset of any annotation format.

    Args:
        dataset: its difficult objects and crowd regions are ignored.
        detections: a table, records, or a COCO result file; boxes in px of the original image.
        metric: 11_points (VOC 2007) or all_points (VOC 2010 and later): which mean is the score; both are computed.
        iou: lowest IoU of a match.

    Raises:
        UserError: a record is invalid, or its image is not in the dataset.
    """
    table = to_table(detections)
    numbers = {sample.image_id: number for number, sample in enumerate(dataset.samples)}
    for image_id in table.image_ids:
        if image_id not in numbers and image_id not in dataset.skipped_image_ids:
            raise UserError(
                f"the detections are of an image {image_id!r}, which {dataset.ann_file} does not have; do the two "
                "belong together?"
            )
    per_class = []
    for label, (category, name) in enumerate(zip(dataset.category_ids, dataset.class_names, strict=True)):
        truths = {number: objects for number, objects in _objects_of(dataset, label) if len(objects.boxes)}
        per_class.append(_class_score(name, truths, dict(_detections_of(table, category, numbers)), iou))
    return VocResult(per_class, metric, iou)


def _objects_of(dataset: DetectionDataset, label: int) -> Iterable[tuple[int, ImageObjects]]:
    """Yields (index of the image, its objects of one class)."""
    for number, sample in enumerate(dataset.samples):
        own = sample.labels == label
        yield number, ImageObjects(sample.boxes[own], (sample.difficult | sample.iscrowd)[own])


def _detections_of(
    table: DetectionTable, category: int | str, numbers: Mapping[int | str, int]
) -> Iterator[tuple[int, ImageDetections]]:
    """Yields (index of the image, its detections of one class)."""
    if category not in table.category_ids:
        return
    own = np.flatnonzero(table.categories == list(table.category_ids).index(category))
    # Stable: keeps the order of the detections of each image.
    own = own[np.argsort(table.images[own], kind="stable")]
    for rows in np.split(own, np.flatnonzero(np.diff(table.images[own])) + 1):
        if len(rows) and (image_id := table.image_ids[table.images[rows[0]]]) in numbers:
            yield numbers[image_id], ImageDetections(xywh_to_xyxy(table.boxes[rows]), table.scores[rows])


def _class_score(
    name: str, truths: Mapping[int, ImageObjects], detections: Mapping[int, ImageDetections], iou: float
) -> VocClassScore:
    objects = int(sum((~truth.ignored).sum() for truth in truths.values()))
    if not objects:
        return VocClassScore(name, math.nan, math.nan, 0)
    recall, precision = precision_recall(truths, detections, iou)
    return VocClassScore(name, eleven_points(recall, precision), all_points(recall, precision), objects)


def precision_recall(
    truths: Mapping[int, ImageObjects], detections: Mapping[int, ImageDetections], iou: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision (n,) of one class after each detection, in order of descending score.

    A detection is assigned to the object of its image with the highest IoU. It is a true positive if that IoU is at
    least `iou` and no detection with a higher score has matched the object. Detections that match an ignored object
    are not counted.

    Args:
        truths, detections: by image.
        iou: 0..1.
    """
    scores, matches, first_object = [], [], 0
    for image, found in detections.items():
        truth = truths.get(image)
        # Index of the matched object among those of all images; -1: no match, -2: an ignored object.
        match = np.full(len(found.scores), -1)
        if truth is not None:
            overlap = iou_matrix(found.boxes, np.asarray(truth.boxes, np.float64))
            best = overlap.argmax(axis=1)
            hits = overlap.max(axis=1) >= iou
            match[hits] = np.where(truth.ignored[best[hits]], -2, first_object + best[hits])
            first_object += len(truth.boxes)
        scores.append(found.scores)
        matches.append(match)
    matched = np.concatenate([np.zeros(0, int), *matches])
    matched = matched[np.argsort(-np.concatenate([np.zeros(0), *scores]), kind="stable")]
    matched = matched[matched != -2]
    is_true = np.zeros(len(matched), bool)
    objects, first = np.unique(matched, return_index=True)
    is_true[first[objects >= 0]] = True
    count = sum(int((~truth.ignored).sum()) for truth in truths.values())
    true_positives = np.cumsum(is_true)
    return true_positives / max(count, 1), true_positives / np.arange(1, len(matched) + 1)


def eleven_points(recall: np.ndarray, precision: np.ndarray) -> float:
    """11-point AP (VOC 2007): mean of the highest precision at a recall of at least 0, 0.1, ... 1."""
    # tenth / 10, since adding 0.1 ten times does not give 1.
    return float(np.mean([precision[recall >= tenth / 10].max(initial=0) for tenth in range(11)]))


def all_points(recall: np.ndarray, precision: np.ndarray) -> float:
    """All-point AP (since VOC 2010): area under the curve of the highest precision at each recall or above."""
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0) * best))
