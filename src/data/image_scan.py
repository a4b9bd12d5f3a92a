"""A look at every image file of a split: can it be read, how large is it, is it there twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from src.data.decode import MAX_IMAGE_PIXELS, decode_image
from src.data.image_header import exif_orientation, read_header
from src.data.sample import ImageSource
from src.errors import UserError


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image file is.

    Attributes:
        width, height: stored pixels; 0 where it cannot be read.
        orientation: of EXIF, 1 to 8; 1 is upright.
        digest: of its bytes; empty where it cannot be read.
        error: why it cannot be used; empty if it can.
        missing: whether there is no such file.
    """

    width: int = 0
    height: int = 0
    orientation: int = 1
    digest: str = ""
    error: str = ""
    missing: bool = False

    def fits(self, width: int, height: int) -> bool:
        """Whether an annotated size is that of the image, as stored or as EXIF turns it."""
        return (width, height) == (self.width, self.height) or self.is_turned(width, height)

    def is_turned(self, width: int, height: int) -> bool:
        """Whether an annotated size is that of the turned image alone."""
        stored = (self.width, self.height)
        return (width, height) != stored and self.orientation >= 5 and (height, width) == stored


def scan_images(
    folder: Path,
    names: Sequence[str],
    *,
    decode: bool = True,
    store: ImageSource | None = None,
    workers: int = 2,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> Iterator[ImageFacts]:
    """Facts of the images, in the order of their names; threads share the work, as reading and decoding let go of the
    interpreter.

    Args:
        folder: that names start from.
        names: relative file names.
        decode: decode each image, which finds damage that its header does not show.
        store: where they are if they are no files.
        workers: threads.
        max_pixels: larger images are an error.
    """

    def look(name: str) -> ImageFacts:
        return _look(folder / name, decode, store, max_pixels)

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        yield from pool.map(look, names)


def _look(path: Path, decode: bool, store: ImageSource | None, max_pixels: int) -> ImageFacts:
    try:
        data = path.read_bytes() if store is None else store.read(path)
    except FileNotFoundError:
        return ImageFacts(error=f"image {path} is missing", missing=True)
    except OSError as error:
        return ImageFacts(error=f"image {path} cannot be read ({error.strerror})")
    except UserError as error:
        return ImageFacts(error=str(error))
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    header = read_header(data)
    try:
        if decode or header is None:
            image = decode_image(path, data=data, max_pixels=max_pixels)
            height, width = image.shape[:2]
        else:
            width, height = header.width, header.height
    except UserError as error:
        return ImageFacts(error=str(error), digest=digest)
    return ImageFacts(width, height, exif_orientation(data), digest)
