"""Images that could not be read during an evaluation: neither their objects nor detections on them are scored.

Their ids are stored next to the result file, so that it always gives the same score.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msdet.errors import UserError
from msdet.files import read_json, write_json

if TYPE_CHECKING:
    from msdet.data.dataset import DetectionDataset


def unreadable_ids_file(detections: Path) -> Path:
    """The file of the ids that belongs to a result file."""
    return detections.with_suffix(".left_out.json")


def write_unreadable_ids(detections: Path, image_ids: Sequence[int | str]) -> None:
    """Writes the ids next to a result file; without ids no file is written, and an old one is removed."""
    if image_ids:
        write_json(unreadable_ids_file(detections), list(image_ids))
    else:
        unreadable_ids_file(detections).unlink(missing_ok=True)


def read_unreadable_ids(detections: Path) -> list[int | str]:
    """Reads the ids of the unreadable images of a result file.

    Raises:
        UserError: the file of the ids is damaged.
    """
    path = unreadable_ids_file(detections)
    if not path.is_file():
        return []
    ids = read_json(path)
    if not isinstance(ids, list) or not all(isinstance(value, int | str) for value in ids):
        raise UserError(f"{path} is not a list of image ids")
    return ids


def without_unreadable(dataset: DetectionDataset, unreadable_ids: Sequence[int | str]) -> DetectionDataset:
    """Removes the unreadable images from a dataset.

    Raises:
        UserError: no image is left.
    """
    removed = set(unreadable_ids)
    positions = [position for position, sample in enumerate(dataset.samples) if sample.image_id in removed]
    if positions and len(positions) == len(dataset):
        raise UserError(f"none of the {len(dataset)} images of {dataset.ann_file} could be read")
    return dataset.without_images(positions)
