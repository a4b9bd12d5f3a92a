"""Renders a small COCO-format dataset of shapes, for trying out training on any machine.

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

from msdet.data.synthetic.render import SHAPE_NAMES, RenderedImage, render_image
from msdet.errors import UsageError, UserError

logger = logging.getLogger(__name__)

# Written last, before the folder is renamed: if it exists, the dataset is complete.
STAMP = "shapes.json"
# Increase it when the images of a seed change.
_VERSION = 1
_JPEG_QUALITY = 95


def render_shapes(
    out_dir: str | Path, train: int = 400, val: int = 100, size: int = 256, seed: int = 1, max_objects: int = 6
) -> Path:
    """Renders the dataset, unless a complete one with the same parameters exists.

    The folder contains train/, val/, annotations/train.json and annotations/val.json. It is written to a temporary
    folder and renamed, so it is never incomplete.

    Args:
        out_dir: the dataset's folder.
        train, val: number of images of the two splits.
        size: width and height of an image, in pixels.
        seed: an image depends on (seed, split, number), so a larger dataset starts with the images of a smaller one.
        max_objects: maximum number of objects per image, at least 1.

    Returns:
        The folder.

    Raises:
        UsageError: a number is out of range.
        UserError: the folder contains something else, or cannot be written.
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
    if _is_complete(out_dir, wanted):
        logger.info("%s already exists", out_dir)
        return out_dir
    try:
        out_dir.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out_dir.name}.", dir=out_dir.parent))
    except OSError as error:
        raise UserError(f"{out_dir} cannot be created ({error.strerror})") from error
    try:
        # mkdtemp makes the folder private; the dataset is not.
        temporary.chmod(0o755)
        for number, (split, count) in enumerate((("train", train), ("val", val))):
            _render_split(temporary, split, count, size, (seed, number), max_objects)
        (temporary / STAMP).write_text(json.dumps(wanted), encoding="utf-8")
        _rename(temporary, out_dir, wanted)
    except OSError as error:
        raise UserError(f"{out_dir} cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    logger.info("rendered %d + %d images of %d px into %s", train, val, size, out_dir)
    return out_dir


def _is_complete(out_dir: Path, wanted: dict[str, int]) -> bool:
    """True if the dataset exists; False if the folder does not exist or is empty.

    Raises:
        UserError: the folder contains something else.
    """
    if not out_dir.exists() or (out_dir.is_dir() and not any(out_dir.iterdir())):
        return False
    try:
        existing = json.loads((out_dir / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(
            f"{out_dir} exists and is not a dataset of shapes: choose another folder, or remove it first"
        ) from None
    if existing != wanted:
        raise UserError(
            f"{out_dir} contains shapes with other parameters ({existing}): choose another folder, or remove it first"
        )
    return True


def _rename(temporary: Path, out_dir: Path, wanted: dict[str, int]) -> None:
    try:
        temporary.rename(out_dir)
    except OSError:
        # Another process may have created the same dataset meanwhile.
        if not _is_complete(out_dir, wanted):
            raise


def _render_split(root: Path, split: str, count: int, size: int, seed: tuple[int, int], max_objects: int) -> None:
    (root / split).mkdir()
    annotation_file: dict[str, list[dict[str, Any]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": label + 1, "name": name} for label, name in enumerate(SHAPE_NAMES)],
    }
    for number in range(count):
        rendered = render_image(np.random.default_rng([*seed, number]), size, max_objects)
        name = f"{number + 1:06d}.jpg"
        _, encoded = cv2.imencode(
            ".jpg", cv2.cvtColor(rendered.image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        )
        (root / split / name).write_bytes(encoded.tobytes())
        annotation_file["images"].append({"id": number + 1, "file_name": name, "width": size, "height": size})
        _add_annotations(annotation_file["annotations"], rendered, number + 1)
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"{split}.json").write_text(json.dumps(annotation_file), encoding="utf-8")


def _add_annotations(annotations: list[dict[str, Any]], rendered: RenderedImage, image_id: int) -> None:
    for box, area, label in zip(
        rendered.boxes.tolist(), rendered.areas.tolist(), rendered.labels.tolist(), strict=True
    ):
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
    """Renders the dataset from the command line."""
    parser = argparse.ArgumentParser(prog="msdet shapes", description="Renders a small COCO-format dataset of shapes.")
    parser.add_argument("--output", required=True, help="folder to create")
    parser.add_argument("--train", type=int, default=400, help="number of training images")
    parser.add_argument("--val", type=int, default=100, help="number of validation images")
    parser.add_argument("--size", type=int, default=256, help="width and height in pixels")
    parser.add_argument("--seed", type=int, default=1, help="seed of the images")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    render_shapes(args.output, args.train, args.val, args.size, args.seed)
    return 0
