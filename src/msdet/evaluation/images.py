"""Draws detections next to the ground truth."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msdet.errors import UserError
from msdet.evaluation.detection_table import DetectionTable, to_table
from msdet.ops.boxes import xywh_to_xyxy
from msdet.ops.draw import draw_boxes, save_image, side_by_side

if TYPE_CHECKING:
    from msdet.data.dataset import DetectionDataset

log = logging.getLogger(__name__)

_MIN_SCORE = 0.3


def draw_results(
    dataset: DetectionDataset, detections: DetectionTable | Path, folder: Path, count: int, on_bad_image: str = "error"
) -> list[Path]:
    """Draws the first images of a dataset twice: with the ground truth, and with the detections of score >= 0.3.

    Args:
        dataset: the images.
        detections: a table or a COCO result file.
        folder: output folder.
        count: number of images to draw.
        on_bad_image: with `skip`, an unreadable image is skipped with a warning.

    Returns:
        the written files.

    Raises:
        UserError: an image cannot be read, or the result file is invalid.
    """
    table = to_table(detections)
    labels: dict[int | str, int] = {category: label for label, category in enumerate(dataset.category_ids)}
    label_of = np.array([labels.get(category, -1) for category in table.category_ids], np.int64)[table.categories]
    shown = (label_of >= 0) & (table.scores >= _MIN_SCORE)
    positions = {image_id: position for position, image_id in enumerate(table.image_ids)}
    paths = []
    for sample in dataset.samples[:count]:
        rows = np.flatnonzero(shown & (table.images == positions.get(sample.image_id, -1)))
        try:
            image = dataset.decode(sample)
        except UserError as error:
            if on_bad_image != "skip":
                raise
            log.warning("not drawn: %s", error)
            continue
        detected = draw_boxes(
            image,
            xywh_to_xyxy(table.boxes[rows]).astype(np.float32),
            label_of[rows].astype(np.int32),
            dataset.class_names,
            table.scores[rows].astype(np.float32),
        )
        truth = draw_boxes(image, sample.boxes, sample.labels, dataset.class_names)
        path = folder / f"{sample.image_path.stem}.jpg"
        save_image(path, side_by_side(truth, detected))
        paths.append(path)
    return paths
