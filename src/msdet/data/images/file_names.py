"""Which files are images, by their names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

# What the decoders read and data sets are made of, most frequent first; and GIF, which OpenCV's packages do not decode:
# one that is listed ends in a message, not in silence.
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".jpe", ".jfif", ".jp2", ".ppm", ".pgm", ".gif",
)  # fmt: skip
UNREADABLE_SUFFIXES = (".gif",)
READABLE_SUFFIXES = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix not in UNREADABLE_SUFFIXES)


# Images of phones, cameras and drawing programs that are not read: beside others they are named in a warning.
UNSUPPORTED_SUFFIXES = (
    ".heic", ".heif", ".hif", ".avif", ".jxl", ".jxr", ".j2k", ".j2c", ".jpf", ".jpx", ".psd", ".svg", ".ico", ".tga",
    ".exr", ".hdr", ".pfm", ".pnm", ".pbm", ".pam", ".ras", ".sr", ".dcm", ".fits", ".dng", ".cr2", ".cr3", ".nef",
    ".arw", ".raf", ".orf", ".rw2", ".apng", ".mpo", ".dib", ".eps", ".pdf",
)  # fmt: skip


def is_ignored_name(name: str) -> bool:
    """True for what file managers leave behind (`._x.jpg`, `__MACOSX`, `Thumbs.db`) and for all that is hidden."""
    return name.startswith(".") or name.lower() in ("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir")


def is_image_name(name: str) -> bool:
    """True for a file name that ends as images do and is not hidden."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not is_ignored_name(name)


def image_names(folder: Path) -> list[str]:
    """Names of the images in a folder, sorted; none if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if is_image_name(entry.name))
    except OSError:
        return []


def walk_images(folder: Path) -> Iterator[Path]:
    """Images of a folder and of all folders in it, links to folders included, by sorted names.

    A folder that can be reached in several ways is read once, so that a link upwards ends nowhere.
    """
    seen = {os.path.realpath(folder)}
    for inner, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        for name in list(folders):
            real = os.path.realpath(Path(inner, name))
            if real in seen or is_ignored_name(name):
                folders.remove(name)
            seen.add(real)
        yield from (Path(inner, name) for name in sorted(names) if is_image_name(name))


def find_image(folder: Path) -> Callable[[str], str]:
    """A function from the stem of a name to the image of that stem in the folder, or to nothing.

    The folder is listed once. Of several images of one stem the most frequent kind is taken.
    """
    rank = {suffix: number for number, suffix in enumerate(IMAGE_SUFFIXES)}
    names = sorted(image_names(folder), key=lambda name: -rank[Path(name).suffix.lower()])
    by_stem = {Path(name).stem: name for name in names}
    return lambda stem: by_stem.get(stem, "")
