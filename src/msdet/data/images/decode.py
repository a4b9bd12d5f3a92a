"""Reading image files: always RGB, always whole and upright, and an error that names the file where it is not."""

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

# Twice Pillow's limit: about what a decompression bomb starts at, and far above any camera.
MAX_IMAGE_PIXELS = 89_478_485 * 2
# Enough for most headers, and for those with a preview or a colour profile; where that is too little, all is read.
_HEADER_BYTES = (4096, 65_536)
# OpenCV 4.11 decodes to RGB at no cost; earlier ones need a pass over the pixels.
_DECODES_RGB = hasattr(cv2, "IMREAD_COLOR_RGB")
_FLAGS = (cv2.IMREAD_COLOR_RGB if _DECODES_RGB else cv2.IMREAD_COLOR) | cv2.IMREAD_IGNORE_ORIENTATION
# OpenCV's own reader of JPEG 2000 writes outside its memory (CVE-2025-53644), and PNM of more than 8 bits comes out
# dark there. The classes are called by name, as `Image.open` would try every format that Pillow knows.
_PILLOW = {"jpeg2000": Jpeg2KImagePlugin.Jpeg2KImageFile, "pnm": PpmImagePlugin.PpmImageFile}


def read_image_size(path: Path, ann_file: Path | None = None) -> tuple[int, int]:
    """Width and height of the upright image, from the header alone.

    Raises:
        UserError: the file is missing or no image.
    """
    try:
        with path.open("rb", buffering=0) as file:
            data, header = _read_header(file)
    except OSError as error:
        raise UserError(_message(path, ann_file, _reason(error))) from error
    if header is None:
        raise UserError(_message(path, ann_file, _no_image(data)))
    if header.width < 1 or header.height < 1:
        raise UserError(_message(path, ann_file, f"has {header.width}x{header.height} pixels"))
    return header.size


def _read_header(file: IO[bytes]) -> tuple[bytes, ImageHeader | None]:
    """As much of the beginning of a file as its header needs, and the header."""
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

    It is turned upright as its EXIF orientation says, with one exception: where only the stored image has the annotated
    size, the boxes were drawn on the stored one, and it is left as it is. What is doubtful goes to `collected_notes`.

    Args:
        path: the file.
        ann_file: the annotation file that named the image; part of every error message.
        size: annotated (width, height), with which the image must agree; zeros if unknown, None if there are no boxes.
        max_pixels: larger images are refused before they are decoded.
        data: the bytes of the file, if it has been read.

    Raises:
        UserError: the file is missing, unreadable, truncated, no image, too large, or not of the annotated size.
    """
    data, header = _read_checked(path, ann_file, max_pixels, data)
    try:
        image = _decoded(data, header, path)
    except (cv2.error, OSError, ValueError, SyntaxError) as error:
        raise UserError(_message(path, ann_file, "is damaged: it cannot be decoded")) from error
    if image is None:
        raise UserError(_message(path, ann_file, "is damaged"))
    if image.shape[:2] != (header.height, header.width):
        raise UserError(_message(path, ann_file, "is damaged: its header tells another size than its pixels have"))
    if size is not None:
        if all(size) and tuple(size) not in ((header.width, header.height), header.size):
            told = f"has {header.size[0]}x{header.size[1]} pixels, its annotation says {size[0]}x{size[1]}"
            raise UserError(_message(path, ann_file, told) + ": boxes of another size would be wrong")
        add_note(exif_note(path, header, size))
    if header.orientation == 1 or (size is not None and keeps_stored(header, size)):
        return np.ascontiguousarray(image)
    return np.ascontiguousarray(apply_orientation(image, header.orientation))


def _decoded(data: bytes, header: ImageHeader, path: Path) -> np.ndarray | None:
    """Stored pixels uint8 (H, W, 3) RGB, or None where the decoder gives none."""
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
            # OpenCV turns TIFF whatever it is told.
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
    """Turns stored pixels (H, W, 3) upright for an EXIF orientation, 1 to 8; a view."""
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
    """The bytes of an image file, uint8 (n,), for another decoder, and its header; the same files are refused as by
    `decode_image`.

    `data` are they, if the file has been read.

    Raises:
        UserError: the file is missing, unreadable, empty, truncated or too large.
    """
    data, header = _read_checked(path, None, max_pixels, data)
    return np.frombuffer(data, np.uint8), header


def check_header(path: Path, data: bytes, max_pixels: int = MAX_IMAGE_PIXELS) -> ImageHeader:
    """The header of an image whose bytes have been read.

    Raises:
        UserError: `decode_image` would refuse the file without decoding it.
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
    """The bytes and the header of a file that may be given to a decoder."""
    data = read_bytes(path, ann_file) if data is None else data
    header = read_header(data)
    if header is None:
        raise UserError(_message(path, ann_file, _no_image(data)))
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
            f"holds {'whole' if header.is_unsigned else 'signed or floating-point'} numbers of {header.bits} bits, of "
            "which nothing says what is black and white: convert it to 8 bits"
        )
    if is_truncated(data, header):
        return f"is truncated: the {header.format} ends after {len(data)} bytes"
    if header.format == "gif":
        return "is a GIF, which OpenCV's packages do not decode: convert it to PNG"
    if header.format == "jpeg" and has_zeroed_scan(data):
        return "is damaged: a part of its pixels is lost and filled with zeros"
    return ""


def _no_image(data: bytes) -> str:
    """What is wrong with a file of which no header can be read."""
    if not data:
        return "is empty"
    if name := image_format(data):
        return f"is truncated or damaged: it has no whole header of a {name}"
    if name := unsupported_image_format(data):
        return f"is a file of {name}, which is not read: convert it to JPEG or PNG"
    if name := video_container(data):
        return f"is no image that can be decoded but a video ({name})"
    return "is no image that can be decoded"


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "is missing"
    return f"cannot be read ({error.strerror})"


def _message(path: Path, ann_file: Path | None, what: str) -> str:
    return f"image {path} {what}" + (f" (annotated in {ann_file})" if ann_file else "")
