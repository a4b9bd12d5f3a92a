"""The ground truth of a dataset as scoring needs it: with ids that every scorer takes."""

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

    Scorers see numbers instead of ids: image i of `image_ids` is i + 1, category c of `category_ids` is c + 1,
    annotations count from 1. Ids are sorted first, so ties between images fall as they do with the ids of the file.
    (Thus text can be an id, and so can the annotation id 0, which pycocotools takes for "not matched".)

    Attributes:
        path: the annotation file.
        image_ids, category_ids: sorted, as in the file.
        names: of the categories.
        images: (n,) int64 image number of each annotation.
        labels: (n,) int64 category number of each annotation.
        boxes: (n,4) float64 [x, y, w, h] px.
        areas: (n,) float64 px^2.
        iscrowd: (n,) bool.
        other_images, other_categories: ids that exist and are not scored.
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
        """The images as a COCO dataset lists them (scorers of boxes do not look at their sizes)."""
        return [{"id": n, "file_name": "", "height": 0, "width": 0} for n in range(1, len(self.image_ids) + 1)]

    def category_records(self) -> list[dict[str, Any]]:
        """The categories as a COCO dataset lists them."""
        return [{"id": number, "name": printable(name)} for number, name in enumerate(self.names, 1)]

    def annotation_records(self) -> list[dict[str, Any]]:
        """The annotations as a COCO dataset lists them."""
        columns = (self.images, self.labels, self.boxes, self.areas, self.iscrowd)
        keys = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [dict(zip(keys, (n, *row[:-1], int(row[-1])), strict=True)) for n, row in enumerate(rows, 1)]


def ground_truth(
    dataset: DetectionDataset,
    image_ids: Sequence[int | str] | None = None,
    category_ids: Sequence[int] | None = None,
) -> GroundTruth:
    """What a dataset says, for scoring: what was read is what is scored.

    An area that the annotations do not tell is width x height of the box.

    Args:
        dataset: as it was read.
        image_ids, category_ids: keep these only; None = all.

    Raises:
        UserError: a wanted id is not in the dataset.
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
    labels = number_of[_joined([sample.labels for sample in dataset.samples], np.int64)]
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
        iscrowd=_joined([sample.iscrowd for sample in dataset.samples], bool)[kept],
        other_images=(dataset.skipped_image_ids | frozenset(ids)) - frozenset(scored_images),
        # A hole among the ids of the classes is an output of the network, and no class of the data.
        other_categories=(dataset.other_categories | frozenset(dataset.category_ids)) - frozenset(scored_categories),
    )


def read_ground_truth(
    path: Path | str,
    image_ids: Sequence[int | str] | None = None,
    category_ids: Sequence[int] | None = None,
) -> GroundTruth:
    """The ground truth of a COCO annotation file alone, without its images; see `ground_truth`.

    Raises:
        UserError: the file cannot be read, something in it is wrong, or a wanted id is not in it.
    """
    path = Path(path)
    return ground_truth(read_coco(path, path.parent, check_images=False), image_ids, category_ids)


def _joined(columns: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *columns]).astype(dtype)


def _chosen(known: Iterable[Any], wanted: Sequence[Any] | None, key: str, path: Path) -> list[Any]:
    """The wanted ids (all if None), sorted: numbers before text."""
    chosen = set(known) if wanted is None else set(wanted)
    unknown = chosen - set(known)
    if unknown:
        raise UserError(f"{path} has no {key} {min(unknown, key=str)!r} ({len(unknown)} wanted ids are not in it)")
    return sorted(chosen, key=lambda identifier: (isinstance(identifier, str), identifier))
