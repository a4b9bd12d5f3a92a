"""Sizes and orientation from the first bytes of an image file, without decoding it.

Formats: JPEG (ITU-T T.81, EXIF 2.3 for the orientation), PNG (ISO 15948), GIF89a, BMP, TIFF 6.0 and WebP (RFC 9649).
Other formats give no header, and the decoder has the last word on them.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

# Start-of-frame markers: C4 (Huffman tables), C8 and CC (arithmetic coding) share their range and are none.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# In entropy-coded data FF is followed by 00 (a data byte) or D0-D7 (restart); anything else is the next marker.
_JPEG_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_JPEG_END = b"\xff\xd9"


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the header of an image file says.

    Attributes:
        format: `jpeg`, `png`, `gif`, `bmp`, `tiff` or `webp`.
        width, height: stored pixels, before any EXIF rotation.
    """

    format: str
    width: int
    height: int


def read_header(data: bytes) -> ImageHeader | None:
    """Header of an image file, or None if the format is not known or the header is cut off.

    Args:
        data: the file, or its beginning (of a JPEG as far as the frame header, which EXIF can push back by 64 kB and
            more).
    """
    try:
        if data[:2] == b"\xff\xd8":
            return _jpeg_header(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return ImageHeader("png", *struct.unpack(">II", data[16:24]))
        if data[:6] in (b"GIF87a", b"GIF89a"):
            return ImageHeader("gif", *struct.unpack("<HH", data[6:10]))
        if data[:2] == b"BM":
            width, height = struct.unpack("<ii", data[18:26])
            return ImageHeader("bmp", width, abs(height))
        if data[:4] in (b"II*\0", b"MM\0*"):
            return _tiff_header(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp_header(data)
    except (struct.error, IndexError):
        return None
    return None


def _jpeg_header(data: bytes) -> ImageHeader | None:
    for marker, start, end in _jpeg_segments(data):
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", data[start + 1 : start + 5])
            return ImageHeader("jpeg", width, height) if end <= len(data) else None
    return None


def _jpeg_segments(data: bytes) -> list[tuple[int, int, int]]:
    """Markers with the ends of their contents, up to and with the first scan."""
    segments = []
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            break
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        length = (data[position + 2] << 8) | data[position + 3]
        segments.append((marker, position + 4, position + 2 + length))
        if marker == 0xDA:
            break
        position += 2 + length
    return segments


def _tiff_header(data: bytes) -> ImageHeader | None:
    """Of the first picture in the file; its directory may stand anywhere."""
    order = "<" if data[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(f"{order}I", data, 4)
    (entries,) = struct.unpack_from(f"{order}H", data, directory)
    sides = {}
    for entry in range(entries):
        place = directory + 2 + 12 * entry
        tag, kind = struct.unpack_from(f"{order}HH", data, place)
        if tag in (256, 257) and kind in (3, 4):
            (sides[tag],) = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", data, place + 8)
    return ImageHeader("tiff", sides[256], sides[257]) if len(sides) == 2 else None


def _webp_header(data: bytes) -> ImageHeader | None:
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        return ImageHeader("webp", width, int.from_bytes(data[27:30], "little") + 1)
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return ImageHeader("webp", (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1)
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return ImageHeader("webp", width & 0x3FFF, height & 0x3FFF)
    return None


def is_truncated(data: bytes, header: ImageHeader) -> bool:
    """True if the file ends before its image does. Decoders fill the rest with grey and say nothing."""
    if header.format == "jpeg":
        return not data.endswith(_JPEG_END) and not _jpeg_has_end(data)
    if header.format == "png":
        return data.rfind(b"IEND") < 0
    if header.format == "webp":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    if header.format == "gif":
        return b";" not in data[-16:]
    if header.format == "bmp":
        return len(data) < int.from_bytes(data[2:6], "little")
    return False


def _jpeg_has_end(data: bytes) -> bool:
    # The first end marker may belong to a thumbnail inside EXIF, so the search starts behind the first scan's header.
    segments = _jpeg_segments(data)
    if not segments or segments[-1][0] != 0xDA:
        return False
    position = segments[-1][2]
    while (match := _JPEG_NEXT_MARKER.search(data, position)) is not None:
        if match.group() == _JPEG_END:
            return True
        position = match.start() + 2 + int.from_bytes(data[match.start() + 2 : match.start() + 4], "big")
    return False


def exif_orientation(data: bytes) -> int:
    """EXIF orientation of a JPEG, 1 to 8; 1 (upright) where there is none. 5 to 8 swap width and height."""
    if data[:2] != b"\xff\xd8":
        return 1
    for marker, start, end in _jpeg_segments(data):
        if marker == 0xE1 and data[start : start + 6] == b"Exif\0\0":
            return _tiff_orientation(data[start + 6 : end])
    return 1


def _tiff_orientation(tiff: bytes) -> int:
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for entry in range(entries):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, directory + 2 + 12 * entry)
            if tag == 0x0112:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1
