"""Seconds of COCO scoring, hotcoco against pycocotools: `python -m benchmarks.coco_eval`.

Pseudo detections are made from the ground truth (jittered, doubled, invented) and written as a result file. Both sides
read the annotation file and the result file and give the twelve numbers, which are checked to be equal to 1e-9.
`--copies` repeats the dataset under new image ids, to see how the times grow (24 copies of 206 images: val2017).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.side_by_side import alternate
from src.engine.coco_score import score_detections
from src.engine.detections import DetectionWriter
from src.engine.postprocess import Detections


def repeated(dataset: dict[str, Any], copies: int) -> dict[str, Any]:
    """The dataset `copies` times with new image and annotation ids."""
    step = 1 + max(image["id"] for image in dataset["images"])
    images = [image | {"id": image["id"] + n * step} for n in range(copies) for image in dataset["images"]]
    annotations = [
        {key: a[key] for key in ("category_id", "bbox", "area", "iscrowd")} | {"image_id": a["image_id"] + n * step}
        for n in range(copies)
        for a in dataset["annotations"]
    ]
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    return {"images": images, "categories": dataset["categories"], "annotations": annotations}


def write_pseudo_detections(dataset: dict[str, Any], path: Path, per_image: int = 30) -> tuple[int, float]:
    """Writes jittered ground truth and inventions; returns how many detections and the seconds of writing."""
    rng = np.random.default_rng(0)
    ids = [category["id"] for category in dataset["categories"]]
    truth: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in dataset["images"]}
    for annotation in dataset["annotations"]:
        truth[annotation["image_id"]].append(annotation)
    seconds = 0.0
    with DetectionWriter(path, ids) as writer:
        for image_id, annotations in truth.items():
            known = np.array([a["bbox"] for a in annotations], np.float32).reshape(-1, 4)
            labels = np.array([ids.index(a["category_id"]) for a in annotations], np.int32)
            invented = rng.uniform(1, 200, (per_image, 4))
            boxes = np.concatenate([known * rng.uniform(0.9, 1.1, known.shape), invented])
            boxes[:, 2:] += boxes[:, :2]
            scores = np.concatenate([rng.random(len(known)), rng.random(per_image) * 0.3]).round(2)
            labels = np.concatenate([labels, rng.integers(0, len(ids), per_image)])
            begin = time.perf_counter()
            writer.write(image_id, Detections(boxes.astype(np.float32), scores.astype(np.float32), labels))
            seconds += time.perf_counter() - begin
    return writer.detections, seconds


def main() -> None:
    """Prints medians and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", type=Path, default=Path("../shared/data/coco_mini"))
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    dataset = json.loads((args.data_dir / "annotations" / "instances_val2017.json").read_text())
    dataset = repeated(dataset, args.copies)
    with tempfile.TemporaryDirectory() as folder:
        ann_file, file = Path(folder) / "annotations.json", Path(folder) / "detections.json"
        ann_file.write_text(json.dumps(dataset))
        count, writing = write_pseudo_detections(dataset, file)
        megabytes = file.stat().st_size / 1e6
        print(f"{len(dataset['images'])} images, {len(dataset['annotations'])} ground truths, {count} detections")
        print(f"writing the result file ({megabytes:.1f} MB): {writing:.2f} s")
        stats = [score_detections(ann_file, file, backend).stats for backend in ("hotcoco", "pycocotools")]
        np.testing.assert_allclose(*stats, rtol=0, atol=1e-9)
        fast, slow = alternate(
            lambda: score_detections(ann_file, file, "hotcoco"),
            lambda: score_detections(ann_file, file, "pycocotools"),
            args.rounds,
        )
    print(f"hotcoco {fast:.2f} s, pycocotools {slow:.2f} s (files read and checked too): {slow / fast:.1f}x")


if __name__ == "__main__":
    main()
