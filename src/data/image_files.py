"""Which files are images, by their names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# What OpenCV's decoder reads and data sets are made of, most frequent first; and GIF, which its packages do not decode:
# one that is listed ends in a message, not in silence.
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".jpe", ".jfif", ".jp2", ".ppm", ".pgm", ".gif",
)  # fmt: skip
UNREADABLE_SUFFIXES = (".gif",)
READABLE_SUFFIXES = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix not in UNREADABLE_SUFFIXES)


def is_image_name(name: str) -> bool:
    """True for a file name that ends as images do and is not hidden."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def image_names(folder: Path) -> list[str]:
    """Names of the images in a folder, sorted; none if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if is_image_name(entry.name))
    except OSError:
        return []


def find_image(folder: Path) -> Callable[[str], str]:
    """A function from the stem of a name to the image of that stem in the folder, or to nothing.

    The folder is listed once. Of several images of one stem the most frequent kind is taken.
    """
    rank = {suffix: number for number, suffix in enumerate(IMAGE_SUFFIXES)}
    names = sorted(image_names(folder), key=lambda name: -rank[Path(name).suffix.lower()])
    by_stem = {Path(name).stem: name for name in names}
    return lambda stem: by_stem.get(stem, "")
