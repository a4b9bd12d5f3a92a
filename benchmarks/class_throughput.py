"""Images per second of a classifier's training input against Pillow: `python benchmarks/run.py class_data`.

All read the same images and produce uint8 batches of 256 px: a random crop, decoded, resized, randomly flipped, with
random brightness, contrast and saturation. The baseline uses Pillow, image by image in one thread, with
crops sampled as in torchvision. Without randomness both must give the same images before anything is timed.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageEnhance

from benchmarks.report import ROOT, SPEEDUP, Goal, Options, Result
from benchmarks.side_by_side import alternate_epochs
from msdet.data.formats.imagefolder import ImageFolder, read_image_folder
from msdet.data.images.decode import MAX_IMAGE_PIXELS
from msdet.data.loading.loaders import class_loader
from msdet.data.transforms.random_crop import CropFlipColour
from msdet.errors import UsageError

BATCH = 16
IMAGES = 800
PILLOW, ALONE, WORKERS = "Pillow, one thread", "loader, in process", "loader, 2 workers"
_AREA, _ASPECT, _COLOUR = (0.08, 1.0), (0.75, 1.333), 0.4
# Mean difference in grey levels: Pillow applies antialiasing when it downsizes, MindSpore does not.
_GREY_TOLERANCE = 15.0


def measure(options: Options) -> Result:
    """Measures the loader in this process and with two workers."""
    result = Result()
    cv2.setNumThreads(1)
    side = 64 if options.quick else 256
    folder = options.data_dir or _default_folder()
    dataset = read_image_folder(folder / "train" if (folder / "train").is_dir() else folder)
    grey = check_same_images(dataset, side)
    dataset = enlarged(dataset, 2 * BATCH if options.quick else IMAGES)
    loaders = {
        name: class_loader(dataset, CropFlipColour(), BATCH, [(side, side)], training=True, num_workers=workers)
        for name, workers in ((ALONE, 0), (WORKERS, 2))
    }
    seconds = alternate_epochs({PILLOW: lambda: pillow_loop(dataset, BATCH, side)}, loaders, options.count(7))
    count = len(dataset) // BATCH * BATCH
    what = f"classifier training input, {side} px"
    rates = result.keep(what, {name: [count / s for s in values] for name, values in seconds.items()})
    result.compare(what, "images/s", rates, WORKERS, PILLOW, [Goal(SPEEDUP, at_least=2)])
    result.compare(what, "images/s", rates, ALONE, PILLOW)
    result.notes.append(
        f"{what}: {count} images per epoch in batches of {BATCH}; full images without randomness differ by "
        f"{grey:.1f} of 255 grey levels on average from Pillow's, which applies antialiasing."
    )
    return result


def _default_folder() -> Path:
    folder = Path(os.environ.get("DATA_DIR") or ROOT.parent / "shared" / "data") / "imagenet_mini"
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder: give one with one folder per class with --data_dir")
    return folder


def enlarged(dataset: ImageFolder, count: int) -> ImageFolder:
    """The dataset, repeated to at least `count` images."""
    times = math.ceil(count / len(dataset))
    return ImageFolder(dataset.root, dataset.class_names, dataset.files * times, np.tile(dataset.labels, times))


def pillow_loop(dataset: ImageFolder, batch_size: int, side: int) -> None:
    """Decode and augment image by image in one thread."""
    batch, rng = np.empty((batch_size, side, side, 3), np.uint8), np.random.default_rng(0)
    for position in range(len(dataset) // batch_size * batch_size):
        with Image.open(dataset[position].image_path) as file:
            image = file.convert("RGB")
        image = image.resize((side, side), Image.Resampling.BILINEAR, box=sample_crop(*image.size, rng))
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = enhance(image).enhance(rng.uniform(1 - _COLOUR, 1 + _COLOUR))
        batch[position % batch_size] = image


def sample_crop(width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A crop (x1, y1, x2, y2) px of random area and aspect ratio; a centre crop if ten samples do not fit."""
    for _ in range(10):
        area = rng.uniform(*_AREA) * width * height
        aspect = math.exp(rng.uniform(*np.log(_ASPECT)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, (width + side) // 2, (height + side) // 2


def check_same_images(dataset: ImageFolder, side: int, count: int = 16) -> float:
    """Mean difference in grey levels between full images decoded and resized by both.

    Raises:
        RuntimeError: it is too large.
    """
    canvas, differences = np.empty((side, side, 3), np.uint8), []
    for index in range(min(count, len(dataset))):
        path = dataset[index].image_path
        with Image.open(path) as file:
            image = file.convert("RGB")
        aspect = image.width / image.height
        CropFlipColour((1, 1), (aspect, aspect), 0, (0, 0, 0))(path, canvas, np.random.default_rng(0), MAX_IMAGE_PIXELS)
        expected = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR), int)
        differences.append(float(np.abs(canvas - expected).mean()))
    if not np.mean(differences) <= _GREY_TOLERANCE:
        raise RuntimeError(f"images of the two implementations differ by {np.mean(differences):.1f} grey levels")
    return float(np.mean(differences))
