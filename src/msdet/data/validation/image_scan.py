"""A look at every image file of a split: can it be read, how large is it, is it there twice."""

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

# Images that are decoded again if one of them is damaged.
_CHUNK = 256


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image file is.

    Attributes:
        width, height: pixels of the upright image; 0 where it cannot be read.
        header: its header; None where it cannot be read.
        notes: what is odd about it.
        digest: of its bytes; empty where it cannot be read.
        error: why it cannot be used; empty if it can.
        missing: whether there is no such file.
    """

    width: int = 0
    height: int = 0
    header: ImageHeader | None = None
    notes: tuple[ImageNote, ...] = ()
    digest: str = ""
    error: str = ""
    missing: bool = False

    def fits(self, width: int, height: int) -> bool:
        """Whether an annotated size is that of the image, as EXIF turns it or as stored."""
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
        for start in range(0, len(names), _CHUNK):
            some = names[start : start + _CHUNK]
            with captured_warnings() as complaints:
                facts = list(pool.map(look, some))
            # Which of them libjpeg meant is found by decoding them again one by one: a damaged file is rare.
            yield from (_judged(look, folder, *pair) for pair in zip(some, facts, strict=True)) if complaints else facts


def _judged(look: Callable[[str], ImageFacts], folder: Path, name: str, facts: ImageFacts) -> ImageFacts:
    """The facts of an image among whose neighbours at least one is a damaged JPEG."""
    if facts.header is None or facts.header.format != "jpeg":
        return facts
    with captured_warnings() as complaints:
        look(name)
    if not complaints:
        return facts
    what = f"image {folder / name} is damaged: libjpeg says {complaints[0]!r}"
    # Bytes too many are also what careless writers leave; anything else shows in the pixels.
    if all("extraneous bytes" in complaint for complaint in complaints):
        return replace(facts, notes=(*facts.notes, ImageNote(DAMAGE, what)))
    return replace(facts, error=what)


def _look(path: Path, decode: bool, store: ImageStore | None, max_pixels: int) -> ImageFacts:
    try:
        data = path.read_bytes() if store is None else store.read(path)
    except FileNotFoundError:
        return ImageFacts(error=f"image {path} is missing", missing=True)
    except OSError as error:
        return ImageFacts(error=f"image {path} cannot be read ({error.strerror})")
    except UserError as error:
        return ImageFacts(error=str(error))
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    try:
        with collected_notes() as notes:
            header = check_header(path, data, max_pixels)
            if decode:
                decode_image(path, data=data, max_pixels=max_pixels)
    except UserError as error:
        return ImageFacts(error=str(error), digest=digest)
    return ImageFacts(*header.size, header, tuple(notes), digest)
