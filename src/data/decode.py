"""Reading image files: always RGB, always whole, and an error that names the file where it is not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from src.data.image_header import ImageHeader, exif_orientation, is_truncated, read_header
from src.errors import UserError

# Twice Pillow's limit: about what a decompression bomb starts at, and far above any camera.
MAX_IMAGE_PIXELS = 89_478_485 * 2
# Enough for the header of any file without a preview; longer files are read whole.
_HEADER_BYTES = 65_536
# OpenCV 4.11 decodes to RGB at no cost; earlier ones need a pass over the pixels.
_DECODES_RGB = hasattr(cv2, "IMREAD_COLOR_RGB")
_FLAGS = (cv2.IMREAD_COLOR_RGB if _DECODES_RGB else cv2.IMREAD_COLOR) | cv2.IMREAD_IGNORE_ORIENTATION


def read_image_size(path: Path, ann_file: Path | None = None) -> tuple[int, int]:
    """Width and height in stored pixels, from the header alone where the format is a common one.

    Raises:
        UserError: the file is missing or no image.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_HEADER_BYTES)
            header = read_header(data)
            if header is None:
                header = read_header(data + file.read())
    except OSError as error:
        raise UserError(_message(path, ann_file, _reason(error))) from error
    if header is not None:
        return header.width, header.height
    image = decode_image(path, ann_file=ann_file)
    return image.shape[1], image.shape[0]


def decode_image(
    path: Path,
    *,
    ann_file: Path | None = None,
    size: tuple[int, int] | None = None,
    max_pixels: int = MAX_IMAGE_PIXELS,
    data: bytes | None = None,
) -> np.ndarray:
    """Reads an image file of any depth and number of channels as uint8 (H, W, 3) RGB.

    EXIF orientation is ignored, as annotations ignore it, with one exception: where only the rotated image has the
    annotated size, the boxes were drawn on the rotated one, and it is rotated.

    Args:
        path: the file.
        ann_file: the annotation file that named the image; part of every error message.
        size: annotated (width, height), with which the image must agree; None or zeros if unknown.
        max_pixels: larger images are refused before they are decoded.
        data: the bytes of the file, if it has been read.

    Raises:
        UserError: the file is missing, unreadable, truncated, no image, too large, or not of the annotated size.
    """
    data, header = _read_checked(path, ann_file, max_pixels, data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS) if data else None
    except cv2.error as error:
        raise UserError(_message(path, ann_file, f"cannot be decoded ({error.err})")) from error
    if image is None:
        raise UserError(_message(path, ann_file, _undecodable(data, header)))
    if image.shape[0] * image.shape[1] > max_pixels:
        raise UserError(_message(path, ann_file, _too_large(image.shape[1], image.shape[0], max_pixels)))
    if not _DECODES_RGB:
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    if size is not None and all(size) and (image.shape[1], image.shape[0]) != tuple(size):
        return _rotated_to(image, data, size, path, ann_file)
    return image


def read_encoded(path: Path, max_pixels: int = MAX_IMAGE_PIXELS, data: bytes | None = None) -> np.ndarray:
    """The bytes of an image file, uint8 (n,), for another decoder; the same files are refused as by `decode_image`.

    `data` are they, if the file has been read.

    Raises:
        UserError: the file is missing, unreadable, empty, truncated or too large.
    """
    data, _ = _read_checked(path, None, max_pixels, data)
    if not data:
        raise UserError(_message(path, None, "is empty"))
    return np.frombuffer(data, np.uint8)


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
) -> tuple[bytes, ImageHeader | None]:
    data = read_bytes(path, ann_file) if data is None else data
    header = read_header(data)
    if header is not None:
        _check_header(path, ann_file, data, header, max_pixels)
    return data, header


def _check_header(path: Path, ann_file: Path | None, data: bytes, header: ImageHeader, max_pixels: int) -> None:
    if header.width * header.height > max_pixels:
        raise UserError(_message(path, ann_file, _too_large(header.width, header.height, max_pixels)))
    if is_truncated(data, header):
        raise UserError(_message(path, ann_file, f"is truncated: the {header.format} ends after {len(data)} bytes"))


def _rotated_to(image: np.ndarray, data: bytes, size: tuple[int, int], path: Path, ann_file: Path | None) -> np.ndarray:
    height, width = image.shape[:2]
    orientation = exif_orientation(data)
    if orientation >= 5 and (height, width) == tuple(size):
        return np.ascontiguousarray(_apply_orientation(image, orientation))
    raise UserError(
        _message(path, ann_file, f"has {width}x{height} pixels, its annotation says {size[0]}x{size[1]}: boxes of")
        + " another size would be wrong"
    )


def _apply_orientation(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turns stored pixels upright for the EXIF orientations that swap the axes (5 to 8)."""
    swapped = image.transpose(1, 0, 2)
    if orientation == 5:
        return swapped
    if orientation == 6:
        return swapped[:, ::-1]
    if orientation == 7:
        return swapped[::-1, ::-1]
    return swapped[::-1]


def _undecodable(data: bytes, header: ImageHeader | None) -> str:
    if header is None:
        return "is no image that can be decoded" if data else "is empty"
    if header.format == "gif":
        return "is a GIF, which OpenCV's packages do not decode: convert it to PNG"
    return "is damaged"


def _too_large(width: int, height: int, max_pixels: int) -> str:
    return f"has {width}x{height} pixels, more than max_image_pixels={max_pixels} allows"


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "is missing"
    return f"cannot be read ({error.strerror})"


def _message(path: Path, ann_file: Path | None, what: str) -> str:
    return f"image {path} {what}" + (f" (annotated in {ann_file})" if ann_file else "")
