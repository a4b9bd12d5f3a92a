"""Writes the first images of a COCO annotation file, with all their annotations, to another file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--images", type=int, required=True, help="number of images, in order of their ids")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    coco = json.loads(args.annotations.read_text(encoding="utf-8"))
    coco["images"] = sorted(coco["images"], key=lambda image: image["id"])[: args.images]
    kept = {image["id"] for image in coco["images"]}
    coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] in kept]
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(coco), encoding="utf-8")
    print(f"{len(kept)} images, {len(coco['annotations'])} annotations")


if __name__ == "__main__":
    main()
