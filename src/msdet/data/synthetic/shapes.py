"""A small dataset of rendered shapes in COCO's format: something to learn on any machine, within seconds.

msdet shapes --output DIR [--train 400 --val 100 --size 256 --seed 1]
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from msdet.data.synthetic.draw import SHAPE_NAMES, Picture, draw_picture
from msdet.errors import UsageError, UserError

logger = logging.getLogger(__name__)

# Written last, inside the folder that is then renamed: where it is, the dataset is whole.
STAMP = "shapes.json"
# Raise it when the pictures of a seed change.
_VERSION = 1
_JPEG_QUALITY = 95


def render_shapes(
    out_dir: str | Path, train: int = 400, val: int = 100, size: int = 256, seed: int = 1, max_objects: int = 6
) -> Path:
    """Renders the dataset, unless it is already there whole and of the same parameters.

    The folder gets train/, val/, annotations/train.json and annotations/val.json. It is made beside and renamed, so a
    half-made one never bears the name.

    Args:
        out_dir: the dataset's folder.
        train, val: pictures of the two splits.
        size: width and height of a picture, in pixels.
        seed: each picture is drawn from (seed, split, number), so a larger dataset begins like a smaller one.
        max_objects: each picture has 1 to this many.

    Returns:
        The folder.

    Raises:
        UsageError: a number out of range.
        UserError: the folder holds something else, or cannot be written.
    """
    out_dir = Path(out_dir)
    if train < 1 or val < 1 or size < 64 or seed < 0 or max_objects < 1:
        raise UsageError(
            f"train={train}, val={val} and max_objects={max_objects} must be at least 1, size={size} at least 64, "
            f"and seed={seed} not negative"
        )
    wanted = {
        "version": _VERSION,
        "train": train,
        "val": val,
        "size": size,
        "seed": seed,
        "max_objects": max_objects,
    }
    if _is_whole(out_dir, wanted):
        logger.info("%s is already there", out_dir)
        return out_dir
    try:
        out_dir.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{out_dir.name}.", dir=out_dir.parent))
    except OSError as error:
        raise UserError(f"{out_dir} cannot be made ({error.strerror})") from error
    try:
        # mkdtemp keeps others out; the dataset is nothing private.
        beside.chmod(0o755)
        for number, (split, count) in enumerate((("train", train), ("val", val))):
            _render_split(beside, split, count, size, (seed, number), max_objects)
        (beside / STAMP).write_text(json.dumps(wanted), encoding="utf-8")
        _rename(beside, out_dir, wanted)
    except OSError as error:
        raise UserError(f"{out_dir} cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    logger.info("rendered %d + %d pictures of %d px into %s", train, val, size, out_dir)
    return out_dir


def _is_whole(out_dir: Path, wanted: dict[str, int]) -> bool:
    """True if the dataset is there; False if its place is free.

    Raises:
        UserError: something else is in its place.
    """
    if not out_dir.exists() or (out_dir.is_dir() and not any(out_dir.iterdir())):
        return False
    try:
        there = json.loads((out_dir / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(
            f"{out_dir} exists and holds no rendered shapes: name another folder, or remove it first"
        ) from None
    if there != wanted:
        raise UserError(
            f"{out_dir} holds shapes of other parameters ({there}): name another folder, or remove it first"
        )
    return True


def _rename(beside: Path, out_dir: Path, wanted: dict[str, int]) -> None:
    try:
        beside.rename(out_dir)
    except OSError:
        # Another process may have been faster; its dataset is the same.
        if not _is_whole(out_dir, wanted):
            raise


def _render_split(root: Path, split: str, count: int, size: int, seed: tuple[int, int], max_objects: int) -> None:
    (root / split).mkdir()
    content: dict[str, list[dict[str, Any]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": label + 1, "name": name} for label, name in enumerate(SHAPE_NAMES)],
    }
    for number in range(count):
        picture = draw_picture(np.random.default_rng([*seed, number]), size, max_objects)
        name = f"{number + 1:06d}.jpg"
        _, encoded = cv2.imencode(
            ".jpg", cv2.cvtColor(picture.image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        )
        (root / split / name).write_bytes(encoded.tobytes())
        content["images"].append({"id": number + 1, "file_name": name, "width": size, "height": size})
        _add_annotations(content["annotations"], picture, number + 1)
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")


def _add_annotations(annotations: list[dict[str, Any]], picture: Picture, image_id: int) -> None:
    for box, area, label in zip(picture.boxes.tolist(), picture.areas.tolist(), picture.labels.tolist(), strict=True):
        left, top, right, bottom = box
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": label + 1,
                "bbox": [left, top, right - left, bottom - top],
                "area": area,
                "iscrowd": 0,
            }
        )


def main(argv: Sequence[str]) -> int:
    """Command line: renders the dataset and says where it lies."""
    parser = argparse.ArgumentParser(prog="msdet shapes", description="Renders a dataset of shapes.")
    parser.add_argument("--output", required=True, help="folder to make")
    parser.add_argument("--train", type=int, default=400, help="training pictures")
    parser.add_argument("--val", type=int, default=100, help="held-out pictures")
    parser.add_argument("--size", type=int, default=256, help="width and height in pixels")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other pictures")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    render_shapes(args.output, args.train, args.val, args.size, args.seed)
    return 0
