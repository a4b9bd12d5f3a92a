"""The ground truth of a COCO annotation file as scoring needs it: checked, and with ids that every scorer takes."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from src.common.files import read_json
from src.errors import UserError

# Tuples: `int | str` would be made anew for each of a million annotations.
_ID, _NUMBER = (int, str), (int, float)


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
        other_images, other_categories: ids that the file has and that are not scored.
    """

    path: Path
    image_ids: list[int | str]
    category_ids: list[int | str]
    names: list[str]
    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    iscrowd: np.ndarray
    other_images: frozenset[int | str]
    other_categories: frozenset[int | str]

    def image_records(self) -> list[dict[str, Any]]:
        """The images as a COCO dataset lists them (scorers of boxes do not look at their sizes)."""
        return [{"id": n, "file_name": "", "height": 0, "width": 0} for n in range(1, len(self.image_ids) + 1)]

    def category_records(self) -> list[dict[str, Any]]:
        """The categories as a COCO dataset lists them."""
        return [{"id": number, "name": name} for number, name in enumerate(self.names, 1)]

    def annotation_records(self) -> list[dict[str, Any]]:
        """The annotations as a COCO dataset lists them."""
        columns = (self.images, self.labels, self.boxes, self.areas, self.iscrowd)
        keys = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [dict(zip(keys, (n, *row[:-1], int(row[-1])), strict=True)) for n, row in enumerate(rows, 1)]


def read_ground_truth(
    path: Path | str,
    image_ids: Sequence[int | str] | None = None,
    category_ids: Sequence[int | str] | None = None,
) -> GroundTruth:
    """Reads a COCO annotation file for scoring.

    Args:
        path: JSON with "images", "categories" and "annotations".
        image_ids, category_ids: keep these only; None = all.

    Raises:
        UserError: the file cannot be read, is no annotation file, an annotation is broken, or a wanted id is not in it.
    """
    path = Path(path)
    dataset = _read(path)
    known_images = {image["id"] for image in dataset["images"]}
    names = {category["id"]: str(category.get("name", category["id"])) for category in dataset["categories"]}
    scored_images = _chosen(known_images, image_ids, "image_id", path)
    scored_categories = _chosen(names, category_ids, "category_id", path)
    image_numbers = {image_id: number for number, image_id in enumerate(scored_images, 1)}
    category_numbers = {category_id: number for number, category_id in enumerate(scored_categories, 1)}
    kept, images, labels = [], [], []
    for index, annotation in enumerate(dataset["annotations"]):
        problem = _problem(annotation, known_images, names)
        if problem:
            raise UserError(f"{path}: annotations[{index}] {problem}")
        image, category = annotation["image_id"], annotation["category_id"]
        if image in image_numbers and category in category_numbers:
            kept.append(annotation)
            images.append(image_numbers[image])
            labels.append(category_numbers[category])
    boxes = np.array([annotation["bbox"] for annotation in kept], np.float64).reshape(-1, 4)
    areas = [a["area"] if a.get("area") is not None else a["bbox"][2] * a["bbox"][3] for a in kept]
    return GroundTruth(
        path=path,
        image_ids=scored_images,
        category_ids=scored_categories,
        names=[names[category_id] for category_id in scored_categories],
        images=np.array(images, np.int64),
        labels=np.array(labels, np.int64),
        boxes=boxes,
        areas=np.array(areas, np.float64),
        iscrowd=np.array([bool(annotation.get("iscrowd")) for annotation in kept], bool),
        other_images=frozenset(known_images) - frozenset(scored_images),
        other_categories=frozenset(names) - frozenset(scored_categories),
    )


def _read(path: Path) -> dict[str, Any]:
    dataset = read_json(path)
    for key in ("images", "categories", "annotations"):
        entries = dataset.get(key) if isinstance(dataset, dict) else None
        if not isinstance(entries, list):
            raise UserError(f'{path} has no list "{key}": a COCO annotation file is needed to score detections')
        if key == "annotations":
            continue
        for index, entry in enumerate(entries):
            if not isinstance(entry, dict) or not isinstance(entry.get("id"), int | str):
                raise UserError(f'{path}: {key}[{index}] has no "id"')
    return dataset


def _chosen(known: Iterable[Any], wanted: Sequence[Any] | None, key: str, path: Path) -> list[Any]:
    """The wanted ids (all if None), sorted: numbers before text."""
    chosen = set(known) if wanted is None else set(wanted)
    unknown = chosen - set(known)
    if unknown:
        raise UserError(f"{path} has no {key} {min(unknown, key=str)!r} ({len(unknown)} wanted ids are not in it)")
    return sorted(chosen, key=lambda identifier: (isinstance(identifier, str), identifier))


def _problem(annotation: Any, images: Container[Any], categories: Container[Any]) -> str | None:
    """What is wrong with an annotation; None if nothing."""
    if not isinstance(annotation, dict):
        return "is not an object"
    for key, known in (("image_id", images), ("category_id", categories)):
        value = annotation.get(key)
        if not isinstance(value, _ID):
            return f'has no "{key}"'
        if value not in known:
            return f"has {key} {value!r}, which the file does not define"
    try:
        x, y, w, h = annotation["bbox"]
        valid = math.isfinite(x + y + w + h)
    except (KeyError, TypeError, ValueError):
        valid = False
    if not valid:
        return f'has "bbox": {annotation.get("bbox")!r}, not [x, y, width, height] in pixels'
    area = annotation.get("area")
    if area is not None and not (isinstance(area, _NUMBER) and math.isfinite(area)):
        return f'has "area": {area!r}, not a number of square pixels'
    return None
