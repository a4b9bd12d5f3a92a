"""Damage of image files that decoders pass over: they fill what is missing with grey and say nothing."""

from __future__ import annotations

import re

from msdet.data.images.header import ImageHeader, jpeg_segments

# In entropy-coded data FF is followed by 00 (a data byte) or D0-D7 (restart); anything else is the next marker.
_JPEG_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_JPEG_END = b"\xff\xd9"
# 256 zero bits of entropy-coded data.
_HOLE = bytes(32)


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
    if header.format == "jpeg2000":
        # No other two bytes of a codestream are above FF8F.
        return data.rfind(_JPEG_END) < 0
    if header.format == "bmp":
        return len(data) < int.from_bytes(data[2:6], "little")
    return False


def _jpeg_has_end(data: bytes, end: int | None = None) -> bool:
    # The first end marker may belong to a thumbnail inside EXIF, so the search starts behind the first scan's header.
    segments = jpeg_segments(data)
    if not segments or segments[-1][0] != 0xDA:
        return False
    position, end = segments[-1][2], len(data) if end is None else end
    while (match := _JPEG_NEXT_MARKER.search(data, position, end)) is not None:
        if match.group() == _JPEG_END:
            return True
        position = match.start() + 2 + int.from_bytes(data[match.start() + 2 : match.start() + 4], "big")
    return False


def has_zeroed_scan(data: bytes) -> bool:
    """True if a part of a JPEG's pixels was lost and is zero, as bad sectors and broken downloads leave it.

    Decoders show grey or stripes there and say little. So many zero bits pass through the tables of all components of
    an interleaved scan, and where they mean more than "nothing follows" to one of them, no image has them. Progressive
    files are not judged, nor are zeros right before the end, with which some writers pad.
    """
    segments = jpeg_segments(data)
    if not segments or segments[-1][0] != 0xDA:
        return False
    scan, pixels = segments[-1][1:]
    place = data.find(_HOLE, pixels)
    if place < 0 or data[place:].lstrip(b"\0").startswith(_JPEG_END):
        return False
    frames = [data[start:end] for marker, start, end in segments if marker in (0xC0, 0xC1)]
    if len(frames) != 1 or frames[0][5] != data[scan]:
        return False
    zeros: dict[int, int] = {}
    for marker, start, end in segments:
        if marker == 0xC4:
            zeros |= _zero_codes(data[start:end])
    means_more = any(zeros.get(tables & 15, 0) for tables in data[scan + 2 : scan + 1 + 2 * data[scan] : 2])
    return means_more and not _jpeg_has_end(data, place)


def _zero_codes(tables: bytes) -> dict[int, int]:
    """AC table of a DHT segment -> the symbol that zero bits stand for; 0 is the end of a block."""
    symbols, position = {}, 0
    while position + 17 < len(tables):
        if tables[position] >> 4:
            symbols[tables[position] & 15] = tables[position + 17]
        position += 17 + sum(tables[position + 1 : position + 17])
    return symbols
