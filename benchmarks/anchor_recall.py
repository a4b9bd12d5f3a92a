"""How many ground truths EfficientDet's anchors can match: `python -m benchmarks.anchor_recall --annotations FILE`.

A box that no anchor overlaps by `--iou` is learnt only with `force_match`, by its best anchor, if that is not the best
of an earlier box of the image. Boxes count at the scale of the network's input, `--size` px for the longer side of the
image; the last line counts them by their area in the image, as COCO does.

With `--keep_large FILE` the annotations are written again with the boxes below `--least` px marked as crowds, which
evaluation neither expects nor holds against a detection.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
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
    best_anchors: dict[object, set[int]] = defaultdict(set)
    # (small in COCO's sense, positive anchor by IoU, positive anchor with force_match)
    found: list[tuple[bool, bool, bool]] = []
    for annotation in coco["annotations"]:
        if annotation.get("iscrowd"):
            continue
        geometry = plan_resize(*sizes[annotation["image_id"]], (args.size, args.size), "letterbox_top_left")
        x, y, w, h = annotation["bbox"]
        box = geometry.forward(np.array([[x, y, x + w, y + h]], np.float64))[0].astype(np.float64)
        overlaps = iou_matrix(anchors, box[None])[:, 0]
        is_met, best = bool(overlaps.max() >= args.iou), int(overlaps.argmax())
        taken = best_anchors[annotation["image_id"]]
        found.append((annotation.get("area", w * h) < 32**2, is_met, is_met or best not in taken))
        taken.add(best)
        if side(box) < args.least:
            annotation["iscrowd"] = 1
            continue
        large += 1
        matched += is_met
    total = len(coco["annotations"])
    print(f"{large} of {total} boxes are at least {args.least:g} px at {args.size} px", end="; ")
    print(f"an anchor can match {matched} of them ({matched / max(large, 1):.3f})")
    table = np.array(found, bool).reshape(-1, 3)
    for name, column in (("by IoU alone", 1), ("with force_match", 2)):
        shares = [100 * (1 - rows[:, column].mean()) if len(rows) else 0 for rows in (table, table[table[:, 0]])]
        print(
            f"without a positive anchor {name}: {shares[0]:.1f} % of the objects, {shares[1]:.1f} % of the small ones"
        )
    if args.keep_large:
        args.keep_large.write_text(json.dumps(coco), encoding="utf-8")


if __name__ == "__main__":
    main()
