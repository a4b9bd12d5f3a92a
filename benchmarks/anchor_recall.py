"""Counts ground truths that EfficientDet's anchors can match: `python -m benchmarks.anchor_recall --annotations FILE`.

A box that no anchor overlaps by `--iou` has no positive anchor and is not learned, unless it is assigned its best
anchor (`force_match`). Boxes are measured at the network input, with `--size` px for the longer side of the image.
The last two lines are the fractions of boxes without a positive anchor; a small box has less than
32^2 px^2 in its image.

`--keep_large FILE` writes the annotations with boxes below `--least` px marked as crowd regions, which
evaluation ignores.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import mindspore as ms
import numpy as np

from msdet.data.transforms.resize import plan_resize
from msdet.models.efficientdet_d0.anchors import make_anchors
from msdet.models.efficientdet_d0.matching import Matcher
from msdet.ops.boxes import cxcywh_to_xyxy, iou_matrix


def side(box: np.ndarray) -> float:
    """Square root of the area of an xyxy box, in px."""
    return float(np.sqrt(np.prod(box[2:] - box[:2])))


def count_unmatched(coco: dict, size: int, iou: float) -> None:
    """Prints the fraction of boxes without a positive anchor, without and with forced matches."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    columns = tuple(ms.Tensor(column) for column in np.ascontiguousarray(make_anchors(size, size).T))
    found: dict[bool, list[tuple[bool, bool]]] = {False: [], True: []}
    for image in coco["images"]:
        rows = [a["bbox"] for a in coco["annotations"] if a["image_id"] == image["id"] and not a.get("iscrowd")]
        if not rows:
            continue
        corners = np.array(rows, np.float64)
        is_small = corners[:, 2] * corners[:, 3] < 32**2
        corners[:, 2:] += corners[:, :2]
        geometry = plan_resize(image["width"], image["height"], (size, size), "letterbox_top_left")
        boxes = geometry.forward(corners).astype(np.float32)[None]
        labels = np.arange(len(rows), dtype=np.int32)[None]
        for forced, results in found.items():
            best, _, label, is_forced = Matcher(forced)(columns, ms.Tensor(boxes), ms.Tensor(labels))
            positive = (best.asnumpy() >= iou) | is_forced.asnumpy()
            results += zip(is_small, ~np.isin(labels[0], label.asnumpy()[positive]), strict=True)
    for forced, results in found.items():
        small, lost = np.array(results).T
        print(
            f"force_match {forced}: {lost.sum()} of {len(lost)} boxes ({lost.mean():.1%}) have no positive anchor",
            end="",
        )
        print(f", {lost[small].sum()} of the {small.sum()} small ones ({lost[small].mean():.1%})")


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
    count_unmatched(json.loads(args.annotations.read_text(encoding="utf-8")), args.size, args.iou)
    if args.keep_large:
        args.keep_large.write_text(json.dumps(coco), encoding="utf-8")


if __name__ == "__main__":
    main()
