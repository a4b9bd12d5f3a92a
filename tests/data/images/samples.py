"""Images for tests of reading image files."""

import cv2
import numpy as np
from PIL import Image

_SAVE_OPTIONS = {"jpg": {"quality": 95}, "png": {}, "webp": {"lossless": True}, "tiff": {"compression": "tiff_lzw"}}


def scene(width=160, height=120, seed=0):
    """A textured image, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 12, 3), np.uint8)
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(int) + rng.integers(-20, 20, 1)
    return np.clip(fine + rng.integers(-12, 12, fine.shape), 0, 255).astype(np.uint8)


def deep(low, high):
    """A gradient uint16 (48, 64) from `low` to `high`."""
    return np.linspace(low, high, 48 * 64).reshape(48, 64).round().astype(np.uint16)


def gradient(width=60, height=40):
    """A smooth colour gradient, uint8 (height, width, 3) RGB."""
    columns = np.linspace(0, 255, width)[None, :, None]
    rows = np.linspace(0, 255, height)[:, None, None]
    return np.concatenate(np.broadcast_arrays(columns, rows, 255 - columns), axis=2).astype(np.uint8)


def save(path, rgb, *options):
    """Writes an image file with OpenCV and returns its path."""
    pixels = rgb if rgb.ndim == 2 else rgb[..., [2, 1, 0, *range(3, rgb.shape[2])]]
    assert cv2.imwrite(str(path), pixels, *options)
    return path


def smooth_noise(width=60, height=40):
    """Smooth noise, uint8 (height, width, 3)."""
    coarse = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def save_with_orientation(path, orientation, rgb=None):
    """Writes an image file with an EXIF orientation and returns its path."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(smooth_noise() if rgb is None else rgb).save(path, exif=exif, **_SAVE_OPTIONS[path.suffix[1:]])
    return path
