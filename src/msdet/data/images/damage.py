"""Detects damaged image files that decoders accept silently, filling missing pixels with grey."""

from __future__ import annotations

import re

from msdet.data.images.header import ImageHeader, jpeg_segments

# In entropy-coded data FF is followed by 00 (an escaped data byte) or D0-D7 (restart); otherwise it starts a marker.
_JPEG_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_JPEG_END = b"\xff\xd9"
# 256 zero bits of entropy-coded data.
_ZEROS = bytes(32)


def is_truncated(data: bytes, header: ImageHeader) -> bool:
    """True if the file ends before its image does."""
    if header.format == "jpeg":
        return not data.endswith(_JPEG_END) and not _jpeg_has_end(data)
    if header.format == "png":
        return data.rfind(b"IEND") < 0
    if header.format == "webp":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    if header.format == "gif":
        return b";" not in data[-16:]
    if header.format == "jpeg2000":
        # Two bytes above FF8F occur only as markers of the codestream.
        return data.rfind(_JPEG_END) < 0
    if header.format == "bmp":
        return len(data) < int.from_bytes(data[2:6], "little")
    return False


def _jpeg_has_end(data: bytes, end: int | None = None) -> bool:
    # The first end marker may belong to a thumbnail in EXIF, so the search starts after the header of the first scan.
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
    """True if a part of a JPEG's entropy-coded data is zero, as after bad sectors or interrupted downloads.

    In an interleaved scan 256 zero bits are decoded with the Huffman tables of all components. Unless they are an
    end-of-block code in every table, no encoder writes them. Progressive files are not checked, nor are zeros directly
    before the end marker, which some programs write as padding.
    """
    segments = jpeg_segments(data)
    if not segments or segments[-1][0] != 0xDA:
        return False
    scan, pixels = segments[-1][1:]
    place = data.find(_ZEROS, pixels)
    if place < 0 or data[place:].lstrip(b"\0").startswith(_JPEG_END):
        return False
    frames = [data[start:end] for marker, start, end in segments if marker in (0xC0, 0xC1)]
    if len(frames) != 1 or frames[0][5] != data[scan]:
        return False
    zeros: dict[int, int] = {}
    for marker, start, end in segments:
        if marker == 0xC4:
            zeros |= _zero_codes(data[start:end])
    is_other_code = any(zeros.get(tables & 15, 0) for tables in data[scan + 2 : scan + 1 + 2 * data[scan] : 2])
    return is_other_code and not _jpeg_has_end(data, place)


def _zero_codes(tables: bytes) -> dict[int, int]:
    """AC table number of a DHT segment -> the symbol encoded by zero bits; symbol 0 is the end of a block."""
    symbols, position = {}, 0
    while position + 17 < len(tables):
        if tables[position] >> 4:
            symbols[tables[position] & 15] = tables[position + 17]
        position += 17 + sum(tables[position + 1 : position + 17])
    return symbols
