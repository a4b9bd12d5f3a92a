"""Images that a network went without because they cannot be read: neither their objects nor detections on them count.

Their ids lie beside the result file, so that it scores the same whenever it is scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msdet.errors import UserError
from msdet.files import read_json, write_json

if TYPE_CHECKING:
    from msdet.data.dataset import DetectionDataset


def left_out_file(detections: Path) -> Path:
    """Where the ids of a result file are."""
    return detections.with_suffix(".left_out.json")


def write_left_out(detections: Path, image_ids: Sequence[int | str]) -> None:
    """Writes the ids beside a result file; without ids there is no file."""
    if image_ids:
        write_json(left_out_file(detections), list(image_ids))
    else:
        left_out_file(detections).unlink(missing_ok=True)


def read_left_out(detections: Path) -> list[int | str]:
    """The ids of the images that a result file was made without.

    Raises:
        UserError: the file of the ids is damaged.
    """
    path = left_out_file(detections)
    if not path.is_file():
        return []
    ids = read_json(path)
    if not isinstance(ids, list) or not all(isinstance(value, int | str) for value in ids):
        raise UserError(f"{path} is no list of image ids")
    return ids


def without_left_out(dataset: DetectionDataset, left_out: Sequence[int | str]) -> DetectionDataset:
    """A dataset without the images that could not be read.

    Raises:
        UserError: no image is left.
    """
    gone = set(left_out)
    positions = [position for position, sample in enumerate(dataset.samples) if sample.image_id in gone]
    if positions and len(positions) == len(dataset):
        raise UserError(f"not one of {len(dataset)} images of {dataset.ann_file} could be read")
    return dataset.without_images(positions)
