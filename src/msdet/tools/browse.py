"""Draws training images as the network sees them: after augmentation, with their boxes.

msdet browse --config configs/yolov4.yaml --data_dir DIR --count 16 --output browse
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msdet.config import parse_command_line
from msdet.errors import UsageError

if TYPE_CHECKING:
    from msdet.config import Config

# Columns and rows of a sheet, and the gap in px.
_COLUMNS, _ROWS, _GAP = 4, 2, 6


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="msdet browse",
        description="Draws training images as the network sees them, several per sheet. Other flags are keys of the "
        "configuration, such as data_dir, seed or augment.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="configuration of the model to train")
    parser.add_argument("--count", type=int, default=16, help="number of images (default: 16)")
    parser.add_argument("--epoch", type=int, default=0, help="epoch, from 0 (default: 0)")
    parser.add_argument("--output", default="browse", help="output folder (default: browse)")
    parser.add_argument("--split", choices=("train", "val"), default="train", help="val: images as in evaluation")
    args, keys = parser.parse_known_args(list(argv))
    cfg = parse_command_line(["--config", args.config, *keys], "browse")
    if args.count < 1 or args.epoch < 0:
        raise UsageError(f"--count is {args.count} and --epoch {args.epoch}: they must be at least 1 and 0")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)

    from msdet.ops.draw import save_image

    images = islice(draw_samples(cfg, args.split, args.epoch), args.count)
    number = 0
    while sheet_images := list(islice(images, _COLUMNS * _ROWS)):
        path = Path(args.output) / f"{cfg.model}_{args.split}_{number}.jpg"
        save_image(path, contact_sheet(sheet_images))
        sys.stdout.write(f"{path}: {len(sheet_images)} images\n")
        number += 1
    return 0


def draw_samples(cfg: Config, split: str, epoch: int) -> Iterator[np.ndarray]:
    """Yields images uint8 (H, W, 3) of an epoch, with boxes and a caption.

    Raises:
        UserError: the data cannot be read.
    """
    from msdet.models.recipe import get_recipe
    from msdet.runtime.start import Runtime
    from msdet.session.datasets import evaluation_loader, open_dataset, training_loader

    dataset, cfg = open_dataset(cfg.replace(num_parallel_workers=0), split)
    recipe = get_recipe(cfg)
    runtime = Runtime("CPU")
    if split == "train":
        # With batches of one image, the first image is ready sooner; the batch size does not change the images.
        loader = training_loader(
            cfg.replace(per_batch_size=1), dataset, recipe.train_pipeline(), runtime, mosaic=recipe.mosaic()
        )
    else:
        loader = evaluation_loader(cfg.replace(eval_batch_size=1), dataset, recipe.eval_pipeline(), runtime)
    with loader:
        for batch in loader.epoch(epoch):
            yield from _draw_batch(batch, dataset.class_names, recipe.task)


def _draw_batch(batch: Any, class_names: Sequence[str], task: str) -> Iterator[np.ndarray]:
    from msdet.ops.draw import add_captions, draw_boxes

    for position, image_id in enumerate(batch.image_ids):
        image = np.array(batch.images[position])
        size = f"{batch.size[1]}x{batch.size[0]}"
        if task == "classify":
            lines = [str(class_names[int(batch.labels[position])]), f"{image_id} ({size})"]
            yield add_captions(image, lines)
            continue
        real = batch.labels[position] >= 0
        drawn = draw_boxes(image, batch.boxes[position][real], batch.labels[position][real], class_names)
        valid = batch.valid_sizes[position]
        yield add_captions(drawn, [f"{image_id}: {int(real.sum())} boxes", f"{size}, image {valid[1]}x{valid[0]}"])


def contact_sheet(images: Sequence[np.ndarray]) -> np.ndarray:
    """Arranges images in rows on a dark background, uint8 (H, W, 3)."""
    height = max(image.shape[0] for image in images)
    width = max(image.shape[1] for image in images)
    rows = -(-len(images) // _COLUMNS)
    columns = min(len(images), _COLUMNS)
    canvas = np.full((rows * (height + _GAP) + _GAP, columns * (width + _GAP) + _GAP, 3), 24, np.uint8)
    for number, image in enumerate(images):
        top = _GAP + number // _COLUMNS * (height + _GAP)
        left = _GAP + number % _COLUMNS * (width + _GAP)
        canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas
