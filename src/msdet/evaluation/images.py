"""Pictures of detections beside the ground truth."""

from __future__ import annotations

import logging
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msdet.errors import UserError
from msdet.evaluation.detections import iter_detections
from msdet.ops.boxes import xywh_to_xyxy
from msdet.ops.draw import draw_boxes, save_image, side_by_side

if TYPE_CHECKING:
    from msdet.data.dataset import DetectionDataset

log = logging.getLogger(__name__)

_LEAST_SCORE = 0.3


def draw_results(
    dataset: DetectionDataset, detections: Path, folder: Path, count: int, on_bad_image: str = "error"
) -> list[Path]:
    """Draws the first images of a dataset twice, with the detections of at least 0.3 and with the ground truth.

    Args:
        dataset: the images.
        detections: COCO result file.
        folder: where the pictures go.
        count: how many.
        on_bad_image: `skip` passes an image that cannot be read over, with a warning.

    Returns:
        the files.

    Raises:
        UserError: an image cannot be read, or the result file is broken.
    """
    samples = dataset.samples[:count]
    wanted = {sample.image_id for sample in samples}
    labels = {category: label for label, category in enumerate(dataset.category_ids)}
    found = defaultdict(list)
    for record in iter_detections(detections):
        if record["image_id"] in wanted and record["category_id"] in labels and record["score"] >= _LEAST_SCORE:
            found[record["image_id"]].append(record)
    paths = []
    for sample in samples:
        records = found[sample.image_id]
        try:
            image = dataset.decode(sample)
        except UserError as error:
            if on_bad_image != "skip":
                raise
            log.warning("not drawn: %s", error)
            continue
        corner_boxes = xywh_to_xyxy(np.array([r["bbox"] for r in records], np.float32).reshape(-1, 4))
        detected = draw_boxes(
            image,
            corner_boxes,
            np.array([labels[r["category_id"]] for r in records], np.int32),
            dataset.class_names,
            np.array([r["score"] for r in records], np.float32),
        )
        truth = draw_boxes(image, sample.boxes, sample.labels, dataset.class_names)
        path = folder / f"{sample.image_path.stem}.jpg"
        save_image(path, side_by_side(truth, detected))
        paths.append(path)
    return paths
