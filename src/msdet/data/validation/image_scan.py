"""Scans all image files of a split: whether they can be read, their sizes, and digests to find duplicates."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from msdet.data.dataset import ImageStore
from msdet.data.images.decode import MAX_IMAGE_PIXELS, check_header, decode_image
from msdet.data.images.decoder_messages import captured_warnings
from msdet.data.images.header import ImageHeader
from msdet.data.images.notes import DAMAGE, ImageNote, collected_notes
from msdet.errors import UserError

# Number of images that are decoded again if one of them is damaged.
_CHUNK = 256


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Result of the scan of an image file.

    Attributes:
        width, height: size in px after the EXIF rotation; 0 if it cannot be read.
        header: None if it cannot be read.
        notes: remarks on it.
        digest: hash of the file; empty if it cannot be read.
        error: why it cannot be used; empty if it can.
        missing: whether the file does not exist.
    """

    width: int = 0
    height: int = 0
    header: ImageHeader | None = None
    notes: tuple[ImageNote, ...] = ()
    digest: str = ""
    error: str = ""
    missing: bool = False

    def fits(self, width: int, height: int) -> bool:
        """Whether an annotated size is that of the image, with or without the EXIF rotation."""
        stored = None if self.header is None else (self.header.width, self.header.height)
        return (width, height) in ((self.width, self.height), stored)


def scan_images(
    folder: Path,
    names: Sequence[str],
    *,
    decode: bool = True,
    store: ImageStore | None = None,
    workers: int = 2,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> Iterator[ImageInfo]:
    """Scans images in the order of their names, with threads: reading and decoding release the GIL.

    Args:
        folder: of the images.
        names: relative file names.
        decode: decode each image, to find damage that the header does not show.
        store: the source of the images if they are not files.
        workers: number of threads.
        max_pixels: larger images are an error.
    """

    def scan(name: str) -> ImageInfo:
        return _scan_image(folder / name, decode, store, max_pixels)

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for start in range(0, len(names), _CHUNK):
            chunk = names[start : start + _CHUNK]
            with captured_warnings() as complaints:
                infos = list(pool.map(scan, chunk))
            # Decode them again one by one to find the file that libjpeg complained about; damage is rare.
            yield from (
                (_with_damage(scan, folder, *pair) for pair in zip(chunk, infos, strict=True)) if complaints else infos
            )


def _with_damage(scan: Callable[[str], ImageInfo], folder: Path, name: str, info: ImageInfo) -> ImageInfo:
    """The info of an image, with an error or note if libjpeg complains about it."""
    if info.header is None or info.header.format != "jpeg":
        return info
    with captured_warnings() as complaints:
        scan(name)
    if not complaints:
        return info
    what = f"image {folder / name} is damaged: libjpeg reports {complaints[0]!r}"
    # Some encoders write extraneous bytes; any other complaint means wrong pixels.
    if all("extraneous bytes" in complaint for complaint in complaints):
        return replace(info, notes=(*info.notes, ImageNote(DAMAGE, what)))
    return replace(info, error=what)


def _scan_image(path: Path, decode: bool, store: ImageStore | None, max_pixels: int) -> ImageInfo:
    try:
        data = path.read_bytes() if store is None else store.read(path)
    except FileNotFoundError:
        return ImageInfo(error=f"image {path} is missing", missing=True)
    except OSError as error:
        return ImageInfo(error=f"image {path} cannot be read ({error.strerror})")
    except UserError as error:
        return ImageInfo(error=str(error))
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    try:
        with collected_notes() as notes:
            header = check_header(path, data, max_pixels)
            if decode:
                decode_image(path, data=data, max_pixels=max_pixels)
    except UserError as error:
        return ImageInfo(error=str(error), digest=digest)
    return ImageInfo(*header.size, header, tuple(notes), digest)
