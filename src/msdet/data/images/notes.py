"""What is odd about images that are read all the same: for the log of a training, and for the check."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msdet.data.images.header import ImageHeader

# A channel of 16 bits is read as value / 256: below the first of these it is nearly black, within the second one tone.
_DARK, _FLAT = 1 << 14, 1 << 12

EXIF, RANGE, DAMAGE = "EXIF rotation", "range of 16-bit values", "damaged image"


@dataclass(frozen=True, slots=True)
class ImageNote:
    """Something odd about an image.

    Attributes:
        kind: `EXIF`, `RANGE` or `DAMAGE`.
        text: a sentence that names the file.
    """

    kind: str
    text: str


_collector: ContextVar[list[ImageNote] | None] = ContextVar("image notes", default=None)


@contextmanager
def collected_notes() -> Iterator[list[ImageNote]]:
    """What this thread's decoding inside of the block has to tell about its images."""
    notes: list[ImageNote] = []
    token = _collector.set(notes)
    try:
        yield notes
    finally:
        _collector.reset(token)


def is_collecting() -> bool:
    """Whether somebody wants to hear."""
    return _collector.get() is not None


def add_note(note: ImageNote | None) -> None:
    """Hands a note to the block that collects, if there is one."""
    notes = _collector.get()
    if notes is not None and note is not None:
        notes.append(note)


def exif_note(path: Path, header: ImageHeader, size: tuple[int, int]) -> ImageNote | None:
    """What is doubtful about the orientation of an annotated image; None if nothing is.

    Args:
        path: of the image.
        header: its header.
        size: annotated width and height, zeros if unknown.
    """
    what = f"image {path} has EXIF orientation {header.orientation}"
    if keeps_stored(header, size):
        return ImageNote(
            EXIF, f"{what}, but its annotation has the stored size {size[0]}x{size[1]}: it is read as it is stored"
        )
    if header.orientation in (2, 3, 4, 5, 7):
        how = {3: "upside down"}.get(header.orientation, "mirrored")
        return ImageNote(
            EXIF,
            f"{what} ({how}): it is turned upright, and whether its boxes were drawn so, its size does not tell; "
            "look at it with msdet browse",
        )
    return None


def keeps_stored(header: ImageHeader, size: tuple[int, int]) -> bool:
    """Whether an annotated size contradicts the EXIF orientation: the boxes were drawn on the stored pixels."""
    return tuple(size) == (header.width, header.height) != header.size


def range_note(path: Path, deep: np.ndarray) -> ImageNote | None:
    """What is doubtful about the values of an image, uint16 (H, W) or (H, W, C); None if nothing is."""
    low, high = int(deep.min()), int(deep.max())
    if not high or (high >= _DARK and high - low >= _FLAT):
        return None
    tone = "nearly black" if high < _DARK else "as nearly one tone"
    return ImageNote(
        RANGE,
        f"image {path} has 16 bits a channel, but its values run from {low} to {high}: read as 8 bits (value / 256) it "
        f"is seen {tone}; stretch the values to 0 to 65535, or write 8 bits",
    )
