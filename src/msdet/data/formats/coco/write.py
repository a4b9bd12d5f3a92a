"""Writes a dataset of any format as a COCO file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msdet.data.categories import UNUSED_CLASS
from msdet.data.dataset import DetectionDataset, Sample
from msdet.files import atomic_path
from msdet.text import json_text


def coco_of(dataset: DetectionDataset) -> dict[str, Any]:
    """A dataset as the JSON object of a COCO file: images, annotations with their flags, categories.

    The area of an object is the annotated one if there is one (COCO: of the mask), else that of its box. File names are
    relative to the image folder of the dataset.
    """
    annotations = [entry for sample in dataset.samples for entry in _annotations(sample, dataset.category_ids)]
    for number, entry in enumerate(annotations, 1):
        entry["id"] = number
    if dataset.xywh is not None:
        for entry, bbox in zip(annotations, dataset.xywh.tolist(), strict=True):
            entry["bbox"], entry["area"] = bbox, bbox[2] * bbox[3]
    if dataset.areas is not None:
        for entry, area in zip(annotations, dataset.areas.tolist(), strict=True):
            entry["area"] = entry["area"] if math.isnan(area) else area
    pairs = zip(dataset.category_ids, dataset.class_names, strict=True)
    used = [(number, name) for number, name in pairs if name != UNUSED_CLASS]
    return {
        "images": [_image(sample, dataset.image_dir) for sample in dataset.samples],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in used],
    }


def _image(sample: Sample, image_dir: Path) -> dict[str, Any]:
    name = sample.image_path.relative_to(image_dir).as_posix()
    return {"id": sample.image_id, "file_name": name, "width": sample.width, "height": sample.height}


def _annotations(sample: Sample, category_ids: list[int]) -> Iterator[dict[str, Any]]:
    rows = zip(sample.boxes.tolist(), sample.labels.tolist(), sample.iscrowd.tolist(), sample.difficult.tolist(),
               strict=True)  # fmt: skip
    for (left, top, right, bottom), label, crowd, difficult in rows:
        entry = {
            "id": 0,
            "image_id": sample.image_id,
            "category_id": category_ids[label],
            "bbox": [left, top, right - left, bottom - top],
            "area": (right - left) * (bottom - top),
            "iscrowd": int(crowd),
        }
        if difficult:
            entry["difficult"] = 1
        yield entry


def write_coco(coco: dict[str, Any], path: Path) -> None:
    """Writes a COCO file atomically, one entry per line so that messages can give a line number."""
    parts = []
    for key, entries in coco.items():
        if isinstance(entries, dict):
            parts.append(f"{json_text(key)}: {json_text(entries)}")
            continue
        rows = ",\n".join(map(json_text, entries))
        parts.append(f"{json_text(key)}: [\n{rows}\n]")
    with atomic_path(path) as temporary:
        temporary.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")
