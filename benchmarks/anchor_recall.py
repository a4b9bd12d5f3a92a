"""How many ground truths EfficientDet's anchors can match: `python -m benchmarks.anchor_recall --annotations FILE`.

A box that no anchor overlaps by `--iou` is never learnt, since nothing is forced on the nearest anchor. Boxes count at
the scale of the network's input, `--size` px for the longer side of the image.

With `--keep_large FILE` the annotations are written again with the boxes below `--least` px marked as crowds, which
evaluation neither expects nor holds against a detection.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from src.common.boxes import cxcywh_to_xyxy, iou_matrix
from src.data.geometry import plan_resize
from src.efficientdet_d0.anchors import make_anchors


def side(box: np.ndarray) -> float:
    """Square root of the area of an xyxy box, in px: what COCO calls its size."""
    return float(np.sqrt(np.prod(box[2:] - box[:2])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--least", type=float, default=32.0, help="square root of the area, in px of the input")
    parser.add_argument("--iou", type=float, default=0.5)
    parser.add_argument("--keep_large", type=Path)
    args = parser.parse_args()
    coco = json.loads(args.annotations.read_text(encoding="utf-8"))
    sizes = {image["id"]: (image["width"], image["height"]) for image in coco["images"]}
    anchors = cxcywh_to_xyxy(make_anchors(args.size, args.size).astype(np.float64))
    large, matched = 0, 0
    for annotation in coco["annotations"]:
        if annotation.get("iscrowd"):
            continue
        geometry = plan_resize(*sizes[annotation["image_id"]], (args.size, args.size), "letterbox_top_left")
        x, y, w, h = annotation["bbox"]
        box = geometry.forward(np.array([[x, y, x + w, y + h]], np.float64))[0].astype(np.float64)
        if side(box) < args.least:
            annotation["iscrowd"] = 1
            continue
        large += 1
        matched += bool(iou_matrix(anchors, box[None]).max() >= args.iou)
    total = len(coco["annotations"])
    print(f"{large} of {total} boxes are at least {args.least:g} px at {args.size} px", end="; ")
    print(f"an anchor can match {matched} of them ({matched / max(large, 1):.3f})")
    if args.keep_large:
        args.keep_large.write_text(json.dumps(coco), encoding="utf-8")


if __name__ == "__main__":
    main()
