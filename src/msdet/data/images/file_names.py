"""Finds image files by their names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

# Formats that are decoded, most frequent first; and GIF, which OpenCV's packages cannot decode: it is listed so that
# it is reported instead of silently ignored.
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".jpe", ".jfif", ".jp2", ".ppm", ".pgm", ".gif",
)  # fmt: skip
UNREADABLE_SUFFIXES = (".gif",)
READABLE_SUFFIXES = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix not in UNREADABLE_SUFFIXES)


# Formats of phones, cameras and drawing programs that cannot be read; a warning names such files.
UNSUPPORTED_SUFFIXES = (
    ".heic", ".heif", ".hif", ".avif", ".jxl", ".jxr", ".j2k", ".j2c", ".jpf", ".jpx", ".psd", ".svg", ".ico", ".tga",
    ".exr", ".hdr", ".pfm", ".pnm", ".pbm", ".pam", ".ras", ".sr", ".dcm", ".fits", ".dng", ".cr2", ".cr3", ".nef",
    ".arw", ".raf", ".orf", ".rw2", ".apng", ".mpo", ".dib", ".eps", ".pdf",
)  # fmt: skip


def is_ignored_name(name: str) -> bool:
    """True for hidden files and for files of file managers (`._x.jpg`, `__MACOSX`, `Thumbs.db`)."""
    return name.startswith(".") or name.lower() in ("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir")


def is_image_name(name: str) -> bool:
    """True for a file name with the suffix of an image that is not hidden."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not is_ignored_name(name)


def image_names(folder: Path) -> list[str]:
    """Names of the images in a folder, sorted; empty if the folder cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if is_image_name(entry.name))
    except OSError:
        return []


def walk_images(folder: Path) -> Iterator[Path]:
    """Images of a folder and its subfolders, following links, sorted by name.

    Each folder is read once, so a link to a parent folder does not recurse forever.
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
    """A function that maps a file stem to the image name with that stem in the folder, or to an empty string.

    The folder is listed once. If several images have the same stem, the most common suffix wins.
    """
    rank = {suffix: number for number, suffix in enumerate(IMAGE_SUFFIXES)}
    names = sorted(image_names(folder), key=lambda name: -rank[Path(name).suffix.lower()])
    by_stem = {Path(name).stem: name for name in names}
    return lambda stem: by_stem.get(stem, "")
