"""Reads darknet .weights files: a short header followed by float32 values without names."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msdet.errors import UserError

_MAX_VERSION = 1000


@dataclass(frozen=True)
class DarknetFile:
    """Content of a .weights file.

    Attributes:
        path: the file.
        version: major, minor, revision of the format.
        seen: number of images trained on.
        values: float32 (n,), all layers concatenated.
    """

    path: Path
    version: tuple[int, int, int]
    seen: int
    values: np.ndarray


def read_darknet(path: Path) -> DarknetFile:
    """Reads header and values.

    The number of images seen takes 8 bytes from version 0.2 on, and 4 bytes before.

    Raises:
        UserError: the file is missing, shorter than its header, of an unknown version, or truncated within a value.
    """
    data = read_bytes(path)
    if len(data) < 16:
        raise UserError(f"{path} is not a darknet file: it has {len(data)} bytes, less than a header")
    major, minor, revision = struct.unpack_from("<iii", data)
    if not (0 <= major < _MAX_VERSION and 0 <= minor < _MAX_VERSION and revision >= 0):
        raise UserError(f"{path} is not a darknet file: its header gives version {major}.{minor}.{revision}")
    is_wide = major * 10 + minor >= 2
    seen_format, start = ("<q", 20) if is_wide else ("<i", 16)
    if len(data) < start or (len(data) - start) % 4:
        raise UserError(f"{path} is truncated: {len(data)} bytes are not a header of {start} and whole float32 values")
    (seen,) = struct.unpack_from(seen_format, data, 12)
    return DarknetFile(path, (major, minor, revision), seen, np.frombuffer(data, "<f4", offset=start))


def read_bytes(path: Path) -> bytes:
    """Reads a whole file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
