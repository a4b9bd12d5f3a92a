"""Reads image files as upright RGB; a file that is damaged, truncated or not an image raises an error that names it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO

import cv2
import numpy as np
from PIL import Jpeg2KImagePlugin, PpmImagePlugin

from msdet.data.images.damage import has_zeroed_scan, is_truncated
from msdet.data.images.file_kinds import unsupported_image_format, video_container
from msdet.data.images.header import PNG_TAIL, ImageHeader, image_format, read_header
from msdet.data.images.notes import add_note, exif_note, is_collecting, keeps_stored, range_note
from msdet.errors import UserError

# Twice Pillow's limit, above which Pillow reports a decompression bomb; far above any camera.
MAX_IMAGE_PIXELS = 89_478_485 * 2
# Enough for most headers, and for headers with a preview or a colour profile; else the whole file is read.
_HEADER_BYTES = (4096, 65_536)
# OpenCV 4.11 decodes to RGB at no cost; earlier versions need a conversion.
_DECODES_RGB = hasattr(cv2, "IMREAD_COLOR_RGB")
_FLAGS = (cv2.IMREAD_COLOR_RGB if _DECODES_RGB else cv2.IMREAD_COLOR) | cv2.IMREAD_IGNORE_ORIENTATION
# OpenCV's JPEG 2000 decoder has a memory error (CVE-2025-53644), and its PNM decoder makes images of more than 8 bits
# too dark. The plugins are called directly because `Image.open` would try every format of Pillow.
_PILLOW = {"jpeg2000": Jpeg2KImagePlugin.Jpeg2KImageFile, "pnm": PpmImagePlugin.PpmImageFile}


def read_image_size(path: Path, ann_file: Path | None = None) -> tuple[int, int]:
    """Width and height of the upright image, from the header alone.

    Raises:
        UserError: the file is missing or not an image.
    """
    try:
        with path.open("rb", buffering=0) as file:
            data, header = _read_header(file)
    except OSError as error:
        raise UserError(_message(path, ann_file, _reason(error))) from error
    if header is None:
        raise UserError(_message(path, ann_file, _unreadable(data)))
    if header.width < 1 or header.height < 1:
        raise UserError(_message(path, ann_file, f"has {header.width}x{header.height} pixels"))
    return header.size


def _read_header(file: IO[bytes]) -> tuple[bytes, ImageHeader | None]:
    """The first bytes of a file, as many as its header needs, and the header."""
    data, tail, header = file.read(_HEADER_BYTES[0]), None, None
    if image_format(data) == "png" and len(data) == _HEADER_BYTES[0]:
        file.seek(max(len(data), file.seek(0, 2) - PNG_TAIL))
        tail = file.read(PNG_TAIL)
        file.seek(len(data))
    for more in (*_HEADER_BYTES[1:], None):
        header = read_header(data, tail)
        if header is not None or not image_format(data):
            return data, header
        data += file.read() if more is None else file.read(more)
    return data, read_header(data)


def decode_image(
    path: Path,
    *,
    ann_file: Path | None = None,
    size: tuple[int, int] | None = None,
    max_pixels: int = MAX_IMAGE_PIXELS,
    data: bytes | None = None,
) -> np.ndarray:
    """Reads an image file of up to 16 bits a channel and any number of channels as uint8 (H, W, 3) RGB.

    The EXIF orientation is applied, with one exception: if only the stored image has the annotated size, the boxes
    refer to the stored image, and it is not rotated. Doubtful cases are reported to `collected_notes`.

    Args:
        path: the file.
        ann_file: the annotation file that lists the image; part of every error message.
        size: annotated (width, height), which must match the image; zeros if unknown, None if there are no boxes.
        max_pixels: larger images are rejected before decoding.
        data: the bytes of the file, if already read.

    Raises:
        UserError: the file is missing, unreadable, truncated, not an image, too large, or not of the annotated size.
    """
    data, header = _read_checked(path, ann_file, max_pixels, data)
    try:
        image = _decoded(data, header, path)
    except (cv2.error, OSError, ValueError, SyntaxError) as error:
        raise UserError(_message(path, ann_file, "is damaged: it cannot be decoded")) from error
    if image is None:
        raise UserError(_message(path, ann_file, "is damaged"))
    if image.shape[:2] != (header.height, header.width):
        raise UserError(_message(path, ann_file, "is damaged: the size in its header is not that of its pixels"))
    if size is not None:
        if all(size) and tuple(size) not in ((header.width, header.height), header.size):
            what = f"has {header.size[0]}x{header.size[1]} pixels, its annotation has {size[0]}x{size[1]}"
            raise UserError(_message(path, ann_file, what) + ": its boxes would be wrong")
        add_note(exif_note(path, header, size))
    if header.orientation == 1 or (size is not None and keeps_stored(header, size)):
        return np.ascontiguousarray(image)
    return np.ascontiguousarray(apply_orientation(image, header.orientation))


def _decoded(data: bytes, header: ImageHeader, path: Path) -> np.ndarray | None:
    """Stored pixels uint8 (H, W, 3) RGB, before rotation; None if the decoder fails."""
    if header.format in _PILLOW:
        image, deep = _by_pillow(data, header)
    else:
        encoded = np.frombuffer(data, np.uint8)
        image = cv2.imdecode(encoded, _FLAGS)
        wants_range = image is not None and header.bits > 8 and is_collecting()
        deep = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED) if wants_range else None
        if image is not None and not _DECODES_RGB:
            cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
        if image is not None and header.format == "tiff":
            # OpenCV applies the orientation of TIFF despite the flag: undo it.
            image = apply_orientation(image, {6: 8, 8: 6}.get(header.orientation, header.orientation))
    if deep is not None and deep.dtype == np.uint16:
        add_note(range_note(path, deep))
    return image


def _by_pillow(data: bytes, header: ImageHeader) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Pixels uint8 (H, W, 3) RGB, and those of a grey image of more than 8 bits, uint16 (H, W)."""
    image = _PILLOW[header.format](io.BytesIO(data))
    if image.size != (header.width, header.height):
        return None, None
    if not image.mode.startswith("I"):
        return np.asarray(image.convert("RGB")), None
    deep = np.asarray(image).astype(np.uint16)
    return np.repeat((deep >> 8).astype(np.uint8)[..., None], 3, axis=2), deep


def apply_orientation(image: np.ndarray, orientation: int) -> np.ndarray:
    """Rotates and flips stored pixels (H, W, 3) upright for an EXIF orientation, 1 to 8; returns a view."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image


def read_encoded(
    path: Path, max_pixels: int = MAX_IMAGE_PIXELS, data: bytes | None = None
) -> tuple[np.ndarray, ImageHeader]:
    """The bytes of an image file, uint8 (n,), for another decoder, and its header.

    Rejects the same files as `decode_image`. `data` is the content of the file, if already read.

    Raises:
        UserError: the file is missing, unreadable, empty, truncated or too large.
    """
    data, header = _read_checked(path, None, max_pixels, data)
    return np.frombuffer(data, np.uint8), header


def check_header(path: Path, data: bytes, max_pixels: int = MAX_IMAGE_PIXELS) -> ImageHeader:
    """The header of an image file with the content `data`.

    Raises:
        UserError: `decode_image` would reject the file before decoding it.
    """
    return _read_checked(path, None, max_pixels, data)[1]


def read_bytes(path: Path, ann_file: Path | None = None) -> bytes:
    """The bytes of an image file.

    Raises:
        UserError: it is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(_message(path, ann_file, _reason(error))) from error


def _read_checked(
    path: Path, ann_file: Path | None, max_pixels: int, data: bytes | None = None
) -> tuple[bytes, ImageHeader]:
    """The content and the header of a file, checked so that it may be decoded."""
    data = read_bytes(path, ann_file) if data is None else data
    header = read_header(data)
    if header is None:
        raise UserError(_message(path, ann_file, _unreadable(data)))
    problem = _header_problem(data, header, max_pixels)
    if problem:
        raise UserError(_message(path, ann_file, problem))
    return data, header


def _header_problem(data: bytes, header: ImageHeader, max_pixels: int) -> str:
    if header.width < 1 or header.height < 1:
        return f"has {header.width}x{header.height} pixels"
    if header.width * header.height > max_pixels:
        return f"has {header.width}x{header.height} pixels, more than max_image_pixels={max_pixels} allows"
    if header.buffer > max_pixels:
        return f"has tiles or strips of {header.buffer} pixels, more than max_image_pixels={max_pixels} allows"
    if header.problem:
        return header.problem
    if header.format == "tiff" and (not header.is_unsigned or header.bits > 16):
        return (
            f"contains {'integers' if header.is_unsigned else 'signed or floating-point numbers'} of {header.bits} "
            "bits, whose values for black and white are undefined: convert it to 8 bits"
        )
    if is_truncated(data, header):
        return f"is truncated: the {header.format} ends after {len(data)} bytes"
    if header.format == "gif":
        return "is a GIF, which OpenCV's packages cannot decode: convert it to PNG"
    if header.format == "jpeg" and has_zeroed_scan(data):
        return "is damaged: a part of its data is lost and filled with zeros"
    return ""


def _unreadable(data: bytes) -> str:
    """Why no header can be read from a file with this content."""
    if not data:
        return "is empty"
    if name := image_format(data):
        return f"is truncated or damaged: its {name} header is incomplete"
    if name := unsupported_image_format(data):
        return f"has the unsupported format {name}: convert it to JPEG or PNG"
    if name := video_container(data):
        return f"is not an image but a video ({name})"
    return "is not a supported image"


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "is missing"
    return f"cannot be read ({error.strerror})"


def _message(path: Path, ann_file: Path | None, what: str) -> str:
    return f"image {path} {what}" + (f" (annotated in {ann_file})" if ann_file else "")
