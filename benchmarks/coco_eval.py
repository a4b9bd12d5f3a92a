"""Seconds of COCO scoring against pycocotools: `python benchmarks/run.py coco_eval`.

The dataset is repeated under new image ids until it has as many images as val2017, and detections are made from its
ground truth: jittered boxes and false positives. Ours is `score_detections`, which reads and checks both files and
returns the twelve statistics and those of each class. The baseline follows the example of pycocotools: COCO, loadRes,
COCOeval. The twelve statistics must be equal to 1e-9 before anything is timed.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import SPEEDUP, Goal, Options, Result
from benchmarks.side_by_side import alternate_all
from msdet.data.formats.coco.layouts import find_split
from msdet.evaluation.coco.score import score_detections
from msdet.evaluation.result_file import DetectionWriter
from msdet.ops.postprocess import Detections

IMAGES, DETECTIONS = 5000, 180_000
OURS, REFERENCE = "score_detections (hotcoco)", "pycocotools"


def measure(options: Options) -> Result:
    """Measures reading and scoring."""
    result = Result()
    images, detections = (100, 3600) if options.quick else (IMAGES, DETECTIONS)
    source = json.loads(find_split(options.dataset(), "val").ann_file.read_text(encoding="utf-8"))
    dataset = repeated(source, images)
    with tempfile.TemporaryDirectory() as folder:
        ann_file, file = Path(folder) / "annotations.json", Path(folder) / "detections.json"
        ann_file.write_text(json.dumps(dataset), encoding="utf-8")
        count = write_pseudo_detections(dataset, file, detections)
        sides = {
            OURS: lambda: score_detections(ann_file, file).stats,
            REFERENCE: lambda: by_pycocotools(ann_file, file),
        }
        np.testing.assert_allclose(*(score() for score in sides.values()), rtol=0, atol=1e-9)
        seconds = alternate_all(sides, options.count(5), warm=False)
    what = f"COCO scoring, {images:,} images, {count:,} detections"
    result.compare(what, "s", result.keep(what, seconds), OURS, REFERENCE, [Goal(SPEEDUP, at_least=40)])
    result.notes.append(f"{what}: {len(dataset['annotations']):,} ground truths; the twelve numbers equal to 1e-9.")
    return result


def by_pycocotools(ann_file: Path, detections: Path) -> list[float]:
    """The twelve statistics by pycocotools alone."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # silences its progress output
        truth = COCO(str(ann_file))
        evaluation = COCOeval(truth, truth.loadRes(str(detections)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return list(evaluation.stats)


def repeated(dataset: dict[str, Any], count: int) -> dict[str, Any]:
    """The dataset repeated with new image and annotation ids, cut to `count` images."""
    step = 1 + max(image["id"] for image in dataset["images"])
    copies = -(-count // len(dataset["images"]))
    images = [image | {"id": image["id"] + n * step} for n in range(copies) for image in dataset["images"]][:count]
    known = {image["id"] for image in images}
    annotations = [
        {key: a[key] for key in ("category_id", "bbox", "area", "iscrowd")} | {"image_id": a["image_id"] + n * step}
        for n in range(copies)
        for a in dataset["annotations"]
        if a["image_id"] + n * step in known
    ]
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    return {"images": images, "categories": dataset["categories"], "annotations": annotations}


def write_pseudo_detections(dataset: dict[str, Any], path: Path, count: int) -> int:
    """Writes jittered ground truth and false positives, `count` in all; returns the number of detections."""
    rng = np.random.default_rng(0)
    ids = [category["id"] for category in dataset["categories"]]
    false_positives, more = divmod(count - len(dataset["annotations"]), len(dataset["images"]))
    truth: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in dataset["images"]}
    for annotation in dataset["annotations"]:
        truth[annotation["image_id"]].append(annotation)
    with DetectionWriter(path, ids) as writer:
        for position, (image_id, annotations) in enumerate(truth.items()):
            new = false_positives + (position < more)
            known = np.array([a["bbox"] for a in annotations], np.float32).reshape(-1, 4)
            labels = np.array([ids.index(a["category_id"]) for a in annotations], np.int32)
            boxes = np.concatenate([known * rng.uniform(0.9, 1.1, known.shape), rng.uniform(1, 200, (new, 4))])
            boxes[:, 2:] += boxes[:, :2]
            scores = np.concatenate([rng.random(len(known)), rng.random(new) * 0.3]).round(2)
            labels = np.concatenate([labels, rng.integers(0, len(ids), new)])
            writer.write(image_id, Detections(boxes.astype(np.float32), scores.astype(np.float32), labels))
    return writer.detections
