"""Images per second of the training input against plain loops: `python benchmarks/run.py data`.

All read the same JPEG files and produce batches of 416 px. The plain loop is a single thread that decodes, letterboxes,
normalizes and transposes to CHW, without augmentation; the tuned loop is an optimized version of it. The numpy loop
applies the augmentation of the YOLOs (jitter crop, flip, colour) image by image, and must produce the same images and
boxes as the loader from the same random numbers before anything is timed. The loader returns uint8, which the graph
normalizes.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import cv2
import numpy as np

from benchmarks.report import SPEEDUP, Goal, Options, Result
from benchmarks.side_by_side import alternate_epochs
from msdet.data.dataset import DetectionDataset
from msdet.data.formats.coco.layouts import find_split
from msdet.data.formats.coco.read import read_coco
from msdet.data.images.decode import MAX_IMAGE_PIXELS, decode_image
from msdet.data.loading.batch import SampleReader
from msdet.data.loading.loaders import detection_loader
from msdet.data.transforms.augment import JitterCrop, LabelledImage, colour_matrix
from msdet.data.transforms.pipeline import jitter_pipeline
from msdet.data.transforms.resize import INTERPOLATIONS, resize_for_eval

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
BATCH = 16
# Images per epoch: enough that its first and last batches, when a worker waits, have little weight.
IMAGES = 800
ALONE, WORKERS = "loader, in process", "loader, 2 workers"
PLAIN, TUNED, NUMPY = "plain loop, no augmentation", "tuned plain loop, no augmentation", "numpy augmentation"
# Mean difference in grey levels (images are cropped to whole pixels before or after the resize), and px.
_GREY_TOLERANCE, _BOX_TOLERANCE = 8.0, 3.0


def measure(options: Options) -> Result:
    """Measures the loader in this process and with two workers."""
    result = Result()
    cv2.setNumThreads(1)
    side = 96 if options.quick else 416
    paths = find_split(options.dataset(), "train")
    dataset = read_coco(paths.ann_file, paths.image_dir)
    grey = check_same_augmentation(dataset, side)
    dataset = enlarged(dataset, 2 * BATCH if options.quick else IMAGES)
    loops = {PLAIN: plain_loop, TUNED: tuned_loop, NUMPY: numpy_loop}
    sides = {name: lambda loop=loop: loop(dataset, BATCH, side) for name, loop in loops.items()}
    loaders = {
        name: detection_loader(dataset, jitter_pipeline(), BATCH, [(side, side)], training=True, num_workers=workers)
        for name, workers in ((ALONE, 0), (WORKERS, 2))
    }
    seconds = alternate_epochs(sides, loaders, options.count(7))
    count = len(dataset) // BATCH * BATCH
    what = f"YOLOv3 training input, {side} px"
    rates = result.keep(what, {name: [count / s for s in values] for name, values in seconds.items()})
    result.compare(what, "images/s", rates, WORKERS, PLAIN, [Goal(SPEEDUP, at_least=3)])
    result.compare(what, "images/s", rates, ALONE, PLAIN, [Goal(SPEEDUP, at_least=1.7)])
    for name, other in ((ALONE, TUNED), (WORKERS, NUMPY), (ALONE, NUMPY)):
        result.compare(what, "images/s", rates, name, other)
    result.notes.append(
        f"{what}: {count} images an epoch in batches of {BATCH}; the images of the loader and of the numpy loop "
        f"differ by {grey:.1f} of 255 grey levels on average."
    )
    return result


def enlarged(dataset: DetectionDataset, count: int) -> DetectionDataset:
    """The dataset repeated and cut to `count` images."""
    return replace(dataset, samples=(dataset.samples * ceil(count / len(dataset)))[:count])


def plain_loop(dataset: DetectionDataset, batch_size: int, side: int) -> None:
    """Decode, letterbox, normalize and transpose to CHW, image by image in one thread."""
    batch = np.empty((batch_size, 3, side, side), np.float32)
    for position in range(len(dataset) // batch_size * batch_size):
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


def tuned_loop(dataset: DetectionDataset, batch_size: int, side: int) -> None:
    """The plain loop with a faster normalization: CHW first, one multiplication and addition in place."""
    batch = np.empty((batch_size, 3, side, side), np.float32)
    factor, shift = (1 / (255 * STD))[:, None, None], (-MEAN / STD)[:, None, None]
    for position in range(len(dataset) // batch_size * batch_size):
        image = decode_image(dataset.samples[position].image_path)
        canvas, _ = resize_for_eval(image, (side, side), "letterbox")
        planes = batch[position % batch_size]
        np.multiply(canvas.transpose(2, 0, 1), factor, out=planes)
        planes += shift


def numpy_loop(dataset: DetectionDataset, batch_size: int, side: int) -> None:
    """Decode and augment image by image in one thread."""
    batch = np.empty((batch_size, side, side, 3), np.uint8)
    for position in range(len(dataset) // batch_size * batch_size):
        sample = dataset.samples[position]
        image = cv2.cvtColor(cv2.imread(str(sample.image_path)), cv2.COLOR_BGR2RGB)
        rng = np.random.default_rng(position)
        batch[position % batch_size], _, _ = numpy_augmentation(image, *sample.targets(), side, rng)


def numpy_augmentation(
    image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, side: int, rng: np.random.Generator
) -> LabelledImage:
    """The augmentation of `jitter_pipeline()` on whole images, with random numbers in the same order."""
    height, width = image.shape[:2]
    name = JitterCrop.interpolations[rng.integers(3)]
    for _ in range(JitterCrop.trials):
        upper, lower = rng.uniform(0.7, 1.3, 2)
        scale = rng.uniform(0.25, 2.0) * side
        new_w, new_h = (scale * upper / lower, scale) if upper < lower else (scale, scale * lower / upper)
        left, top = rng.uniform() * (side - new_w), rng.uniform() * (side - new_h)
        moved = boxes * np.array([new_w / width, new_h / height] * 2) + np.array([left, top] * 2)
        moved = np.clip(moved, 0, side)
        kept = np.all(moved[:, 2:] - moved[:, :2] > 1, axis=1)
        if kept.any() or not len(boxes):
            break
    else:
        left, top, new_w, new_h = 0, 0, side, side
        moved, kept = boxes * np.array([side / width, side / height] * 2), np.ones(len(boxes), bool)
    new_w, new_h, left, top = max(round(new_w), 1), max(round(new_h), 1), round(left), round(top)
    resized = cv2.resize(image, (new_w, new_h), interpolation=INTERPOLATIONS[name])
    canvas = np.full((side, side, 3), 128, np.uint8)
    canvas[max(top, 0) : top + new_h, max(left, 0) : left + new_w] = resized[
        max(-top, 0) : side - top, max(-left, 0) : side - left
    ]
    moved, labels = moved[kept], labels[kept]
    if rng.uniform() < 0.5:
        canvas = canvas[:, ::-1]
        moved = np.stack([side - moved[:, 2], moved[:, 1], side - moved[:, 0], moved[:, 3]], axis=1)
    hue, factors = rng.uniform(-0.1, 0.1), []
    for _ in range(2):
        factor = rng.uniform(1, 1.5)
        factors.append(factor if rng.uniform() < 0.5 else 1 / factor)
    coloured = canvas.astype(np.float32) @ colour_matrix(hue, *factors).T.astype(np.float32)
    return np.clip(np.round(coloured), 0, 255).astype(np.uint8), moved.astype(np.float32), labels


def check_same_augmentation(dataset: DetectionDataset, side: int, count: int = 16) -> float:
    """Mean difference in grey levels between the images of both augmentations for the same random numbers.

    Raises:
        RuntimeError: it is too large, or boxes differ by more than rounding to whole pixels explains.
    """
    reader, pipeline = SampleReader(dataset, MAX_IMAGE_PIXELS, "none"), jitter_pipeline()
    canvas, differences = np.empty((side, side, 3), np.uint8), []
    for index in range(min(count, len(dataset))):
        rng = np.random.default_rng(index)
        found, classes, _ = pipeline(reader.load(index, rng), canvas, rng)
        rng = np.random.default_rng(index)
        augmented, boxes, labels = numpy_augmentation(*reader.load(index, rng), side, rng)
        differences.append(float(np.abs(canvas.astype(int) - augmented).mean()))
        if len(classes) == len(labels):  # a box of about one pixel may be dropped by only one of the two
            largest = float(np.abs(found - boxes).max(initial=0))
            if not np.array_equal(classes, labels) or largest > _BOX_TOLERANCE:
                raise RuntimeError(f"image {index}: boxes of the two augmentations differ by {largest:.1f} px")
    if not np.mean(differences) <= _GREY_TOLERANCE:
        raise RuntimeError(f"images of the two augmentations differ by {np.mean(differences):.1f} grey levels")
    return float(np.mean(differences))
