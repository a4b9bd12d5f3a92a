"""Detections of many images as columns, the input of scoring and drawing; read from COCO result files.

A result file is a JSON array of {"image_id", "category_id", "bbox": [x, y, width, height], "score"} in px of the
original image. It is read in chunks of some megabytes by a compiled decoder: 180,000 detections take 0.2 s.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any

import msgspec
import numpy as np

from msdet.errors import UserError
from msdet.evaluation.unreadable import read_unreadable_ids

_CHUNK = 1 << 23  # characters per read
_MAX_RECORD = 1 << 22  # characters
_WHITESPACE = " \t\r\n"
_whitespace = re.compile(f"[{_WHITESPACE}]*")
_KEYS = ("image_id", "category_id", "bbox", "score")
_Length = Annotated[float, msgspec.Meta(ge=0)]


class _Record(msgspec.Struct, gc=False):
    """A valid record; `_problem` describes what is wrong with an invalid one."""

    image_id: int | str
    category_id: int | str
    bbox: tuple[float, float, _Length, _Length]
    score: float


@dataclass(frozen=True)
class DetectionTable:
    """Detections as columns, in their original order.

    Attributes:
        source: where they come from, for messages: a file, or "detections".
        image_ids, category_ids: each id that occurs, once.
        images, categories: int64 (n,), indices into these.
        boxes: float64 (n, 4) [x, y, w, h] px of the original image.
        scores: float64 (n,).
        unreadable_ids: ids of images that could not be read and are not scored.
    """

    source: str
    image_ids: Sequence[int | str]
    category_ids: Sequence[int | str]
    images: np.ndarray
    categories: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    unreadable_ids: Sequence[int | str] = ()

    def __len__(self) -> int:
        return len(self.scores)


class TableBuilder:
    """Collects detections image by image.

    Args:
        source: where they come from, for messages.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._image_indices: dict[int | str, int] = {}
        self._category_indices: dict[int | str, int] = {}
        self._rows = array("d")

    def add(
        self, image_id: int | str, category_ids: Iterable[int | str], boxes: np.ndarray, scores: np.ndarray
    ) -> None:
        """Adds the detections of one image.

        Args:
            image_id: id of the image.
            category_ids: category id of each of the n detections.
            boxes: (n, 4) [x, y, w, h] px.
            scores: (n,).
        """
        image = _index(self._image_indices, image_id)
        categories = [_index(self._category_indices, category) for category in category_ids]
        rows = np.column_stack((np.full(len(scores), image), categories, boxes, scores)).astype(np.float64)
        self._rows.frombytes(rows.tobytes())

    def add_record(self, image_id: int | str, category_id: int | str, box: Sequence[float], score: float) -> None:
        """Adds one detection; `box` is [x, y, w, h] px."""
        indices = _index(self._image_indices, image_id), _index(self._category_indices, category_id)
        self._rows.extend((*indices, *box, score))

    def __len__(self) -> int:
        return len(self._rows) // 7

    def table(self, unreadable_ids: Sequence[int | str] = ()) -> DetectionTable:
        """The table of all added detections."""
        rows = np.frombuffer(self._rows, np.float64).reshape(-1, 7)
        return DetectionTable(
            self.source,
            list(self._image_indices),
            list(self._category_indices),
            rows[:, 0].astype(np.int64),
            rows[:, 1].astype(np.int64),
            rows[:, 2:6],
            rows[:, 6],
            unreadable_ids,
        )


def _index(known: dict[int | str, int], identifier: int | str) -> int:
    """The index of an id, which is added if it is new."""
    return known.setdefault(identifier, len(known))


def read_detections(path: Path | str) -> DetectionTable:
    """Reads a COCO result file and the ids of its unreadable images.

    Raises:
        UserError: the file is missing or is not a JSON array, or a record lacks a key or has an invalid value; the
            message gives the number of the record, from 0.
    """
    path = Path(path)
    builder = TableBuilder(str(path))
    try:
        with path.open(encoding="utf-8") as file:
            for records in _chunks(file, path):
                _add(builder, records)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a JSON file (byte {error.start} is not UTF-8)") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    return builder.table(read_unreadable_ids(path))


def to_table(detections: DetectionTable | Path | str | Iterable[Any]) -> DetectionTable:
    """Converts detections to a table: a table is returned as is, a result file is read, records are converted.

    Raises:
        UserError: as for `read_detections`.
    """
    if isinstance(detections, DetectionTable):
        return detections
    if isinstance(detections, Path | str):
        return read_detections(detections)
    builder = TableBuilder("detections")
    _add(builder, detections)
    return builder.table()


def _add(builder: TableBuilder, records: Iterable[Any]) -> None:
    for record in records:
        if isinstance(record, _Record):
            builder.add_record(record.image_id, record.category_id, record.bbox, record.score)
            continue
        problem = _problem(record)
        if problem:
            raise UserError(f"{builder.source}: record {len(builder)} {problem}")
        builder.add_record(record["image_id"], record["category_id"], record["bbox"], record["score"])


def _problem(record: Any) -> str | None:
    """Describes what is wrong with a record; None if it is valid."""
    if not isinstance(record, dict):
        return f"is {json.dumps(record)[:40]}, not an object with {', '.join(_KEYS)}"
    for key in _KEYS:
        if key not in record:
            return f'has no "{key}" (it has: {", ".join(record) or "nothing"})'
    for key in ("image_id", "category_id"):
        if not isinstance(record[key], int | str) or isinstance(record[key], bool):
            return f'has "{key}": {record[key]!r}, not a number or text'
    try:
        x, y, w, h = record["bbox"]
        valid = math.isfinite(x + y) and 0 <= w < math.inf and 0 <= h < math.inf
    except (TypeError, ValueError):
        valid = False
    if not valid:
        return f'has "bbox": {record["bbox"]!r}, not four finite numbers [x, y, width, height], width and height >= 0'
    if not isinstance(record["score"], int | float) or not math.isfinite(record["score"]):
        return f'has "score": {record["score"]!r}, not a finite number'
    return None


_decode_records = msgspec.json.Decoder(list[_Record]).decode
_decode_item = json.JSONDecoder().raw_decode


def _chunks(file: IO[str], path: Path) -> Iterator[list[Any]]:
    """Yields the items of the JSON array in `file` in chunks; see `_parse_items`."""
    buffer = file.read(_CHUNK).lstrip(_WHITESPACE)
    if buffer[:1] != "[":
        raise UserError(f"{path} is not a result file: a JSON array starts with '[', this file with {buffer[:20]!r}")
    buffer, count = buffer[1:].lstrip(_WHITESPACE), 0
    while True:
        items, end = _parse_items(buffer)
        if items:
            yield items
            count += len(items)
            buffer = _refilled(buffer[end:].lstrip(_WHITESPACE), file)
            if buffer[:1] != ",":
                break
            buffer = buffer[1:].lstrip(_WHITESPACE)
            continue
        # The buffer ends inside an item, unless it is longer than any record: then something else is wrong.
        more = file.read(_CHUNK) if len(buffer) < _MAX_RECORD else ""
        if not more:
            break
        buffer = (buffer + more).lstrip(_WHITESPACE)
    if buffer[:1] != "]" or (count and not items):
        problem = f"{_syntax_error(buffer)} after {count} records; was its writer interrupted?"
        raise UserError(f"{path} is not a complete JSON array: {problem}")
    if buffer[1:].strip(_WHITESPACE) or file.read(1).strip(_WHITESPACE):
        raise UserError(f"{path} continues after the end of its JSON array")


def _refilled(buffer: str, file: IO[str]) -> str:
    """The buffer, or the next part of the file if it is empty."""
    while not buffer and (more := file.read(_CHUNK)):
        buffer = more.lstrip(_WHITESPACE)
    return buffer


def _parse_items(text: str) -> tuple[list[Any], int]:
    """Parses the comma-separated items at the start of a text; returns them and the position after them. They are
    `_Record`s if everything up to the last brace is valid, else plain JSON values."""
    end = text.rfind("}") + 1
    if end:
        try:
            return _decode_records(f"[{text[:end]}]"), end
        except msgspec.MsgspecError:
            pass
    items: list[Any] = []
    position = end = 0
    while True:
        try:
            item, end = _decode_item(text, position)
        except json.JSONDecodeError:
            return items, end
        items.append(item)
        position = _skip_whitespace(text, end)
        if text[position : position + 1] != ",":
            return items, end
        position = _skip_whitespace(text, position + 1)


def _skip_whitespace(text: str, position: int) -> int:
    """The position after any whitespace at a position."""
    match = _whitespace.match(text, position)
    assert match is not None, "the pattern matches the empty string"
    return match.end()


def _syntax_error(text: str) -> str:
    try:
        _decode_item(text)
    except json.JSONDecodeError as error:
        return error.msg
    return "',' or ']' expected"
