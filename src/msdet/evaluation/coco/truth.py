"""The ground truth of a dataset for scoring, with ids that every scorer accepts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msdet.data.categories import UNUSED_CLASS
from msdet.data.dataset import DetectionDataset
from msdet.data.formats.coco.read import read_coco
from msdet.errors import UserError
from msdet.text import printable


@dataclass(frozen=True)
class GroundTruth:
    """Annotations of the images and categories that are scored.

    Scorers see consecutive numbers instead of ids: image_ids[i] becomes i + 1, category_ids[c] becomes c + 1, and
    annotations are numbered from 1. Ids are sorted first, so that ties between images are resolved as with the original
    ids. (Thus ids may be text, and the annotation id 0, which pycocotools treats as "not matched", is allowed.)

    Attributes:
        path: the annotation file.
        image_ids, category_ids: original ids, sorted.
        names: names of the categories.
        images: (n,) int64 image number of each annotation.
        labels: (n,) int64 category number of each annotation.
        boxes: (n,4) float64 [x, y, w, h] px.
        areas: (n,) float64 px^2.
        iscrowd: (n,) bool.
        other_images, other_categories: ids that exist but are not scored.
    """

    path: Path
    image_ids: list[int | str]
    category_ids: list[int]
    names: list[str]
    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    iscrowd: np.ndarray
    other_images: frozenset[int | str]
    other_categories: frozenset[int]

    def image_records(self) -> list[dict[str, Any]]:
        """The images as records of a COCO dataset (box scorers do not use their sizes)."""
        return [{"id": n, "file_name": "", "height": 0, "width": 0} for n in range(1, len(self.image_ids) + 1)]

    def category_records(self) -> list[dict[str, Any]]:
        """The categories as records of a COCO dataset."""
        return [{"id": number, "name": printable(name)} for number, name in enumerate(self.names, 1)]

    def annotation_records(self) -> list[dict[str, Any]]:
        """The annotations as records of a COCO dataset."""
        columns = (self.images, self.labels, self.boxes, self.areas, self.iscrowd)
        keys = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [dict(zip(keys, (n, *row[:-1], int(row[-1])), strict=True)) for n, row in enumerate(rows, 1)]


def ground_truth(
    dataset: DetectionDataset,
    image_ids: Sequence[int | str] | None = None,
    category_ids: Sequence[int] | None = None,
) -> GroundTruth:
    """The ground truth of a dataset; boxes without an annotated area have the area width x height.

    Args:
        dataset: the dataset.
        image_ids, category_ids: restrict the ground truth to these; None = all.

    Raises:
        UserError: one of these ids is not in the dataset.
    """
    names = {number: name for number, name in zip(dataset.category_ids, dataset.class_names, strict=True)
             if name != UNUSED_CLASS}  # fmt: skip
    ids = [sample.image_id for sample in dataset.samples]
    scored_images = _chosen(ids, image_ids, "image_id", dataset.ann_file)
    scored_categories = _chosen(names, category_ids, "category_id", dataset.ann_file)
    image_numbers = {image_id: number for number, image_id in enumerate(scored_images, 1)}
    category_numbers = {category_id: number for number, category_id in enumerate(scored_categories, 1)}
    counts = [len(sample.boxes) for sample in dataset.samples]
    images = np.repeat(np.array([image_numbers.get(image_id, 0) for image_id in ids], np.int64), counts)
    number_of = np.array([category_numbers.get(category_id, 0) for category_id in dataset.category_ids], np.int64)
    labels = number_of[_concatenated([sample.labels for sample in dataset.samples], np.int64)]
    boxes, areas = dataset.boxes_and_areas()
    kept = (images > 0) & (labels > 0)
    return GroundTruth(
        path=dataset.ann_file,
        image_ids=scored_images,
        category_ids=scored_categories,
        names=[names[category_id] for category_id in scored_categories],
        images=images[kept],
        labels=labels[kept],
        boxes=boxes[kept],
        areas=areas[kept],
        iscrowd=_concatenated([sample.iscrowd for sample in dataset.samples], bool)[kept],
        other_images=(dataset.skipped_image_ids | frozenset(ids)) - frozenset(scored_images),
        # An unused class id between others is an output of the network but not a class of the dataset.
        other_categories=(dataset.other_categories | frozenset(dataset.category_ids)) - frozenset(scored_categories),
    )


def read_ground_truth(
    path: Path | str,
    image_ids: Sequence[int | str] | None = None,
    category_ids: Sequence[int] | None = None,
) -> GroundTruth:
    """The ground truth of a COCO annotation file; its images are not needed. See `ground_truth`.

    Raises:
        UserError: the file cannot be read or is invalid, or one of the given ids is not in it.
    """
    path = Path(path)
    return ground_truth(read_coco(path, path.parent, check_images=False), image_ids, category_ids)


def _concatenated(columns: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *columns]).astype(dtype)


def _chosen(known: Iterable[Any], wanted: Sequence[Any] | None, key: str, path: Path) -> list[Any]:
    """The wanted ids (all if None), sorted: numbers before text."""
    chosen = set(known) if wanted is None else set(wanted)
    unknown = chosen - set(known)
    if unknown:
        raise UserError(f"{path} has no {key} {min(unknown, key=str)!r} ({len(unknown)} of the given ids are unknown)")
    return sorted(chosen, key=lambda identifier: (isinstance(identifier, str), identifier))
