"""Images per second of the training input against a plain loop, side by side: `python -m benchmarks.data_throughput`.

All read the same JPEG files and end in batches of the network's input size. The plain loop is one thread that decodes,
letterboxes, normalises and turns to CHW, without augmentation; the tuned loop does the same with care. The loader
augments (jitter crop, flip, colour) and hands over uint8, which the network's graph normalises. Rounds alternate, so
that a busy machine disturbs all alike; medians are compared.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np

from src.data.coco import read_coco
from src.data.decode import decode_image
from src.data.geometry import resize_for_eval
from src.data.layouts import find_split
from src.data.loader import BatchLoader
from src.data.pipeline import jitter_pipeline
from src.data.sample import DetectionDataset

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def plain_loop(dataset: DetectionDataset, batch_size: int, side: int) -> int:
    """Decode, letterbox, normalise, CHW; one image after the other in one thread. Returns the number of images."""
    count = len(dataset) // batch_size * batch_size
    batch = np.empty((batch_size, 3, side, side), np.float32)
    for position in range(count):
        image = cv2.imread(str(dataset.samples[position].image_path))
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        height, width = image.shape[:2]
        scale = min(side / width, side / height)
        new_w, new_h = round(width * scale), round(height * scale)
        canvas = np.full((side, side, 3), 128, np.uint8)
        top, left = (side - new_h) // 2, (side - new_w) // 2
        canvas[top : top + new_h, left : left + new_w] = cv2.resize(image, (new_w, new_h))
        normalised = (canvas.astype(np.float32) / 255 - MEAN) / STD
        batch[position % batch_size] = normalised.transpose(2, 0, 1)
    return count


def tuned_loop(dataset: DetectionDataset, batch_size: int, side: int) -> int:
    """The plain loop with normalisation written for speed: planes first, one multiplication and addition in place."""
    count = len(dataset) // batch_size * batch_size
    batch = np.empty((batch_size, 3, side, side), np.float32)
    factor, shift = (1 / (255 * STD))[:, None, None], (-MEAN / STD)[:, None, None]
    for position in range(count):
        image = decode_image(dataset.samples[position].image_path)
        canvas, _ = resize_for_eval(image, (side, side), "letterbox")
        planes = batch[position % batch_size]
        np.multiply(canvas.transpose(2, 0, 1), factor, out=planes)
        planes += shift
    return count


def loader_epoch(loader: BatchLoader, epoch: int) -> int:
    """One epoch of batches; returns the number of images."""
    return sum(len(batch.images) for batch in loader.epoch(epoch))


def images_per_second(work: Callable[[], int]) -> float:
    """Images a second of one run of `work`, which returns how many it made."""
    begin = time.perf_counter()
    count = work()
    return count / (time.perf_counter() - begin)


def main() -> None:
    """Prints medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", default="../shared/data/coco_mini")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--side", type=int, default=416)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    paths = find_split(args.data_dir, "train")
    dataset = read_coco(paths.ann_file, paths.image_dir)
    loaders = {
        workers: BatchLoader(
            dataset,
            jitter_pipeline(),
            args.batch_size,
            [(args.side, args.side)],
            training=True,
            num_workers=workers,
        )
        for workers in args.workers
    }
    rates: dict[str, list[float]] = {}
    for loader in loaders.values():
        loader_epoch(loader, 0)
    for epoch in range(1, args.rounds + 1):
        plain = images_per_second(lambda: plain_loop(dataset, args.batch_size, args.side))
        rates.setdefault("plain loop, one thread", []).append(plain)
        tuned = images_per_second(lambda: tuned_loop(dataset, args.batch_size, args.side))
        rates.setdefault("tuned loop, one thread", []).append(tuned)
        for workers, loader in loaders.items():
            rate = images_per_second(lambda loader=loader, epoch=epoch: loader_epoch(loader, epoch))
            rates.setdefault(f"loader, {workers} workers", []).append(rate)
    for loader in loaders.values():
        loader.close()
    base = statistics.median(rates["plain loop, one thread"])
    for name, values in rates.items():
        median = statistics.median(values)
        print(f"{name:24s} {median:7.0f} images/s  {median / base:5.2f} x")


if __name__ == "__main__":
    main()
