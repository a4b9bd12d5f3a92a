"""Detections of many images as columns: what every scorer and drawing takes, from memory or from a COCO result file.

A result file is a JSON array of {"image_id", "category_id", "bbox": [x, y, width, height], "score"} in px of the
original image. It is read some megabytes at a time by a compiled decoder: 180,000 detections in a fifth of a second.
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
from msdet.evaluation.left_out import read_left_out

_PIECE = 1 << 23  # characters read at once
_LONGEST = 1 << 22  # characters of a record, at most
_BLANKS = " \t\r\n"
_blanks = re.compile(f"[{_BLANKS}]*")
_KEYS = ("image_id", "category_id", "bbox", "score")
_Side = Annotated[float, msgspec.Meta(ge=0)]


class _Record(msgspec.Struct, gc=False):
    """A record as it should be; what is none is described by `_problem`."""

    image_id: int | str
    category_id: int | str
    bbox: tuple[float, float, _Side, _Side]
    score: float


@dataclass(frozen=True)
class DetectionTable:
    """Detections as columns, in the order in which they were found.

    Attributes:
        source: what they come from, for messages: a file, or "detections".
        image_ids, category_ids: each id that occurs, once.
        images, categories: int64 (n,), positions in these.
        boxes: float64 (n, 4) [x, y, w, h] px of the original image.
        scores: float64 (n,).
        left_out: ids of images that could not be read: they are not scored.
    """

    source: str
    image_ids: Sequence[int | str]
    category_ids: Sequence[int | str]
    images: np.ndarray
    categories: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    left_out: Sequence[int | str] = ()

    def __len__(self) -> int:
        return len(self.scores)


class TableBuilder:
    """Collects detections image by image.

    Args:
        source: for messages.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._image_numbers: dict[int | str, int] = {}
        self._category_numbers: dict[int | str, int] = {}
        self._rows = array("d")

    def add(
        self, image_id: int | str, category_ids: Iterable[int | str], boxes: np.ndarray, scores: np.ndarray
    ) -> None:
        """Adds the detections of one image.

        Args:
            image_id: of the image.
            category_ids: n of them.
            boxes: (n, 4) [x, y, w, h] px.
            scores: (n,).
        """
        image = _number(self._image_numbers, image_id)
        categories = [_number(self._category_numbers, category) for category in category_ids]
        rows = np.column_stack((np.full(len(scores), image), categories, boxes, scores)).astype(np.float64)
        self._rows.frombytes(rows.tobytes())

    def add_record(self, image_id: int | str, category_id: int | str, box: Sequence[float], score: float) -> None:
        """Adds one detection; `box` is [x, y, w, h] px."""
        numbers = _number(self._image_numbers, image_id), _number(self._category_numbers, category_id)
        self._rows.extend((*numbers, *box, score))

    def __len__(self) -> int:
        return len(self._rows) // 7

    def table(self, left_out: Sequence[int | str] = ()) -> DetectionTable:
        """All that was added."""
        rows = np.frombuffer(self._rows, np.float64).reshape(-1, 7)
        return DetectionTable(
            self.source,
            list(self._image_numbers),
            list(self._category_numbers),
            rows[:, 0].astype(np.int64),
            rows[:, 1].astype(np.int64),
            rows[:, 2:6],
            rows[:, 6],
            left_out,
        )


def _number(known: dict[int | str, int], identifier: int | str) -> int:
    return known.setdefault(identifier, len(known))


def read_detections(path: Path | str) -> DetectionTable:
    """Reads a COCO result file, and the ids of the images that it was made without.

    Raises:
        UserError: the file is missing, is not JSON or not an array, or a record lacks a key or has a wrong value; the
            message has the number of the record, from 0.
    """
    path = Path(path)
    builder = TableBuilder(str(path))
    try:
        with path.open(encoding="utf-8") as file:
            for records in _pieces(file, path):
                _add(builder, records)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a JSON file (byte {error.start} is not UTF-8)") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    return builder.table(read_left_out(path))


def to_table(detections: DetectionTable | Path | str | Iterable[Any]) -> DetectionTable:
    """Detections as a table: one in memory as it is, a result file read, or records such as those of a file.

    Raises:
        UserError: as `read_detections`.
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
    """What is wrong with a record; None if nothing."""
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
        return f'has "bbox": {record["bbox"]!r}, not [x, y, width, height] in finite pixels with width and height >= 0'
    if not isinstance(record["score"], int | float) or not math.isfinite(record["score"]):
        return f'has "score": {record["score"]!r}, not a finite number'
    return None


_decode_records = msgspec.json.Decoder(list[_Record]).decode
_decode_item = json.JSONDecoder().raw_decode


def _pieces(file: IO[str], path: Path) -> Iterator[list[Any]]:
    """The items of the JSON array in `file`, some megabytes at a time; see `_items`."""
    buffer = file.read(_PIECE).lstrip(_BLANKS)
    if buffer[:1] != "[":
        raise UserError(f"{path} is not a result file: a JSON array starts with '[', this file with {buffer[:20]!r}")
    buffer, count = buffer[1:].lstrip(_BLANKS), 0
    while True:
        items, end = _items(buffer)
        if items:
            yield items
            count += len(items)
            buffer = _some(buffer[end:].lstrip(_BLANKS), file)
            if buffer[:1] != ",":
                break
            buffer = buffer[1:].lstrip(_BLANKS)
            continue
        # The buffer ends inside of an item, unless so much is left that something else must be wrong.
        more = file.read(_PIECE) if len(buffer) < _LONGEST else ""
        if not more:
            break
        buffer = (buffer + more).lstrip(_BLANKS)
    if buffer[:1] != "]" or (count and not items):
        problem = f"{_what_is_wrong(buffer)} after {count} records; was its writer interrupted?"
        raise UserError(f"{path} is not a complete JSON array: {problem}")
    if buffer[1:].strip(_BLANKS) or file.read(1).strip(_BLANKS):
        raise UserError(f"{path} goes on after the end of its JSON array")


def _some(buffer: str, file: IO[str]) -> str:
    """The buffer, or what comes next in the file where it is empty."""
    while not buffer and (more := file.read(_PIECE)):
        buffer = more.lstrip(_BLANKS)
    return buffer


def _items(text: str) -> tuple[list[Any], int]:
    """The items, with commas between them, that a text begins with, and where they end: as records where all up to the
    last brace are such, else as JSON has them."""
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
        position = _next(text, end)
        if text[position : position + 1] != ",":
            return items, end
        position = _next(text, position + 1)


def _next(text: str, position: int) -> int:
    """Behind the blanks at a position."""
    blanks = _blanks.match(text, position)
    assert blanks is not None, "none are blanks too"
    return blanks.end()


def _what_is_wrong(text: str) -> str:
    try:
        _decode_item(text)
    except json.JSONDecodeError as error:
        return error.msg
    return "',' or ']' expected"
