"""PASCAL VOC's mean average precision (Everingham et al., 2010, section 4.2): eleven points, or the whole curve."""

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


class Truth(NamedTuple):
    """Objects of one class in one image: boxes (n, 4) xyxy px; ignored, bool (n,): difficult ones and crowds, which
    are neither asked for nor held against a detection."""

    boxes: np.ndarray
    ignored: np.ndarray


class Found(NamedTuple):
    """Detections of one class in one image: boxes (n, 4) xyxy px, scores (n,)."""

    boxes: np.ndarray
    scores: np.ndarray


class VocClassScore(NamedTuple):
    """AP of one class, 0..1, NaN where it has no object; objects: without the ignored ones."""

    name: str
    ap_11: float
    ap_all: float
    objects: int


@dataclass(frozen=True)
class VocResult:
    """What a result file scores by VOC's rules.

    Attributes:
        per_class: one entry a class, in label order.
        metric: which of the two means is the score.
        iou: overlap from which on a detection finds an object.
    """

    per_class: list[VocClassScore]
    metric: str = "11_points"
    iou: float = 0.5

    @property
    def map_11(self) -> float:
        """Mean over the classes that have objects, by eleven points; NaN if there is none."""
        return _mean([score.ap_11 for score in self.per_class])

    @property
    def map_all(self) -> float:
        """The same by the area under the whole curve."""
        return _mean([score.ap_all for score in self.per_class])

    @property
    def score(self) -> float:
        """The mean that `metric` chooses."""
        return self.map_11 if self.metric == "11_points" else self.map_all

    @property
    def summary_text(self) -> str:
        """A line a class, and the two means."""
        width = max([len("class"), *(len(score.name) for score in self.per_class)])
        lines = [f"VOC average precision at IoU {self.iou:g}", f"{'class':<{width}}  objects  11 points  all points"]
        for name, eleven, whole, objects in self.per_class:
            numbers = ("-" if math.isnan(value) else f"{value:.4f}" for value in (eleven, whole))
            lines.append(f"{name:<{width}}  {objects:>7}  {next(numbers):>9}  {next(numbers):>10}")
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
    """Scores detections, in memory or of a COCO result file, against a dataset of any format.

    Args:
        dataset: its difficult objects and crowds are ignored.
        detections: of its images; boxes in px of the original image.
        metric: 11_points (VOC 2007) or all_points (VOC 2010 and later): which mean is the score; both are computed.
        iou: overlap from which on a detection finds an object.

    Raises:
        UserError: a record is broken, or of an image that the dataset does not have.
    """
    table = to_table(detections)
    numbers = {sample.image_id: number for number, sample in enumerate(dataset.samples)}
    for image_id in table.image_ids:
        if image_id not in numbers and image_id not in dataset.skipped_image_ids:
            raise UserError(
                f"the detections are of an image {image_id!r}, which {dataset.ann_file} does not have; do the two "
                "belong together?"
            )
    found = [dict(_found_of(table, category, numbers)) for category in dataset.category_ids]
    per_class = []
    for label, name in enumerate(dataset.class_names):
        truths = {number: truth for number, truth in _truths(dataset, label) if len(truth.boxes)}
        per_class.append(_class_score(name, truths, found[label], iou))
    return VocResult(per_class, metric, iou)


def _truths(dataset: DetectionDataset, label: int) -> Iterable[tuple[int, Truth]]:
    for number, sample in enumerate(dataset.samples):
        own = sample.labels == label
        yield number, Truth(sample.boxes[own], (sample.difficult | sample.iscrowd)[own])


def _found_of(
    table: DetectionTable, category: int | str, numbers: Mapping[int | str, int]
) -> Iterator[tuple[int, Found]]:
    """(number of the image, its detections of one class)."""
    if category not in table.category_ids:
        return
    own = np.flatnonzero(table.categories == list(table.category_ids).index(category))
    # Stable: detections of one image stay in their order.
    own = own[np.argsort(table.images[own], kind="stable")]
    for rows in np.split(own, np.flatnonzero(np.diff(table.images[own])) + 1):
        if len(rows) and (image_id := table.image_ids[table.images[rows[0]]]) in numbers:
            yield numbers[image_id], Found(xywh_to_xyxy(table.boxes[rows]), table.scores[rows])


def _class_score(name: str, truths: Mapping[int, Truth], found: Mapping[int, Found], iou: float) -> VocClassScore:
    objects = int(sum((~truth.ignored).sum() for truth in truths.values()))
    if not objects:
        return VocClassScore(name, math.nan, math.nan, 0)
    recall, precision = precision_recall(truths, found, iou)
    return VocClassScore(name, eleven_points(recall, precision), all_points(recall, precision), objects)


def precision_recall(
    truths: Mapping[int, Truth], found: Mapping[int, Found], iou: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision (n,) of one class after each detection, by falling score.

    A detection belongs to the object of its image that it overlaps most. From `iou` on it finds it, if no detection
    of a higher score has; else it is false. Detections of ignored objects count as nothing.

    Args:
        truths, found: by image.
        iou: 0..1.
    """
    scores, owners, serial = [], [], 0
    for image, detections in found.items():
        truth = truths.get(image)
        # -1: false, -2: ignored, else the number of the object among those of all images.
        owner = np.full(len(detections.scores), -1)
        if truth is not None:
            overlap = iou_matrix(detections.boxes, np.asarray(truth.boxes, np.float64))
            most = overlap.argmax(axis=1)
            hits = overlap.max(axis=1) >= iou
            owner[hits] = np.where(truth.ignored[most[hits]], -2, serial + most[hits])
            serial += len(truth.boxes)
        scores.append(detections.scores)
        owners.append(owner)
    owner = np.concatenate([np.zeros(0, int), *owners])
    owner = owner[np.argsort(-np.concatenate([np.zeros(0), *scores]), kind="stable")]
    owner = owner[owner != -2]
    is_true = np.zeros(len(owner), bool)
    which, first = np.unique(owner, return_index=True)
    is_true[first[which >= 0]] = True
    objects = sum(int((~truth.ignored).sum()) for truth in truths.values())
    true = np.cumsum(is_true)
    return true / max(objects, 1), true / np.arange(1, len(owner) + 1)


def eleven_points(recall: np.ndarray, precision: np.ndarray) -> float:
    """Mean of the best precision at a recall of at least 0, 0.1, ... 1: the rule of VOC 2007."""
    # Written as tenths: the sum of ten times 0.1 is not 1.
    return float(np.mean([precision[recall >= tenth / 10].max(initial=0) for tenth in range(11)]))


def all_points(recall: np.ndarray, precision: np.ndarray) -> float:
    """Area under the curve of the best precision at each recall or a higher one: the rule since VOC 2010."""
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0) * best))
