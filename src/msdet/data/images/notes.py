"""Notes about doubtful images that are decoded nevertheless, for the training log and `msdet check`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msdet.data.images.header import ImageHeader

# 16-bit channels are read as value / 256: a maximum below _DARK is nearly black, a range below _FLAT nearly uniform.
_DARK, _FLAT = 1 << 14, 1 << 12

EXIF, RANGE, DAMAGE = "EXIF rotation", "range of 16-bit values", "damaged image"


@dataclass(frozen=True, slots=True)
class ImageNote:
    """A note about a doubtful image.

    Attributes:
        kind: `EXIF`, `RANGE` or `DAMAGE`.
        text: a message that names the file.
    """

    kind: str
    text: str


_collector: ContextVar[list[ImageNote] | None] = ContextVar("image notes", default=None)


@contextmanager
def collected_notes() -> Iterator[list[ImageNote]]:
    """Collects the notes about images decoded in the block by this thread."""
    notes: list[ImageNote] = []
    token = _collector.set(notes)
    try:
        yield notes
    finally:
        _collector.reset(token)


def is_collecting() -> bool:
    """True inside a block of `collected_notes`."""
    return _collector.get() is not None


def add_note(note: ImageNote | None) -> None:
    """Adds a note to the enclosing block of `collected_notes`, if there is one."""
    notes = _collector.get()
    if notes is not None and note is not None:
        notes.append(note)


def exif_note(path: Path, header: ImageHeader, size: tuple[int, int]) -> ImageNote | None:
    """A note if the EXIF orientation of an annotated image is doubtful, else None.

    Args:
        path: of the image.
        header: its header.
        size: annotated width and height, zeros if unknown.
    """
    what = f"image {path} has EXIF orientation {header.orientation}"
    if keeps_stored(header, size):
        return ImageNote(
            EXIF, f"{what}, but its annotation has the stored size {size[0]}x{size[1]}: it is read without rotation"
        )
    if header.orientation in (2, 3, 4, 5, 7):
        how = {3: "upside down"}.get(header.orientation, "mirrored")
        return ImageNote(
            EXIF,
            f"{what} ({how}): it is rotated upright, but its size does not show whether its boxes refer to the "
            "rotated image; check it with msdet browse",
        )
    return None


def keeps_stored(header: ImageHeader, size: tuple[int, int]) -> bool:
    """True if the annotated size contradicts the EXIF orientation: the boxes refer to the stored pixels."""
    return tuple(size) == (header.width, header.height) != header.size


def range_note(path: Path, deep: np.ndarray) -> ImageNote | None:
    """A note if the values of a uint16 image (H, W) or (H, W, C) use little of their range, else None."""
    low, high = int(deep.min()), int(deep.max())
    if not high or (high >= _DARK and high - low >= _FLAT):
        return None
    tone = "nearly black" if high < _DARK else "nearly uniform"
    return ImageNote(
        RANGE,
        f"image {path} has 16 bits per channel, but its values range from {low} to {high}: converted to 8 bits "
        f"(value / 256) it is {tone}; rescale the values to 0 to 65535, or save it with 8 bits",
    )
