"""Detections on disk: a COCO result file.

It is a JSON array of {"image_id", "category_id", "bbox": [x, y, width, height], "score"} in px of the original image.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from msdet.errors import UserError
from msdet.files import atomic_path
from msdet.ops.boxes import xyxy_to_xywh
from msdet.ops.postprocess import Detections

# 1e-4 px is the spacing of float32 at a coordinate of 1000; scores are written with all their digits, so that no order
# and no tie changes between memory and file.
_RECORD = '{"image_id": %s, "category_id": %s, "bbox": [%.4f, %.4f, %.4f, %.4f], "score": %s}'
_CHUNK = 1 << 22  # characters read at once
_LONGEST = 1 << 22  # characters of a record, at most
_BLANKS = re.compile(r"[ \t\r\n]*")
_KEYS = ("image_id", "category_id", "bbox", "score")


class _Abandoned(Exception):
    """The file is not to be finished."""


class DetectionWriter(AbstractContextManager):
    """Streams detections image by image into a COCO result file, with memory for one image only.

    The file gets its name when the `with` block ends well; after an exception nothing is left under it.

        with DetectionWriter("predictions.json", dataset.category_ids) as writer:
            writer.write(139, detections)

    Args:
        path: the JSON file to write; missing folders are made.
        category_ids: category id of each label, as in the annotation file.

    Attributes:
        images, detections: how many have been written.
    """

    def __init__(self, path: Path | str, category_ids: Sequence[int | str]) -> None:
        self.path = Path(path)
        self.images = 0
        self.detections = 0
        self._categories = [json.dumps(_plain(category)) for category in category_ids]
        self._stack = ExitStack()
        self._file: IO[str] | None = None

    def __enter__(self) -> DetectionWriter:
        if self.path.is_dir():
            raise UserError(f"{self.path} is a folder; the detections need the name of a file")
        with self._reporting(), ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self.path))
            self._file = stack.enter_context(temporary.open("w", encoding="utf-8"))
            self._file.write("[")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            with self._reporting(), self._stack:
                self._file.write("\n]\n")
        else:
            # What went wrong in the block is not told to the file's own clean-up, which would report it as its own.
            with suppress(_Abandoned), self._stack:
                raise _Abandoned

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Says which file could not be written."""
        try:
            yield
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror or error}") from error

    def write(self, image_id: int | str, detections: Detections) -> None:
        """Appends the detections of one image.

        Args:
            image_id: as in the annotation file.
            detections: boxes in pixels of the original image.

        Raises:
            ValueError: outside of a `with` block, a label without a category id, or a number that is not finite.
            UserError: the disk is full.
        """
        if self._file is None or self._file.closed:
            raise ValueError("a DetectionWriter writes inside its `with` block")
        self.images += 1
        if not len(detections):
            return
        boxes, scores = np.asarray(detections.boxes, np.float64), np.asarray(detections.scores, np.float32)
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise ValueError(f"image {image_id}: a detection's box or score is not finite")
        labels = np.asarray(detections.labels)
        if labels.min() < 0 or labels.max() >= len(self._categories):
            raise ValueError(
                f"image {image_id}: a label is not below {len(self._categories)}, the number of categories"
            )
        image = json.dumps(_plain(image_id))
        lines = [
            # str of a float32 is the shortest text that gives the same float32 back
            _RECORD % (image, self._categories[label], *box, score)
            for box, label, score in zip(xyxy_to_xywh(boxes).tolist(), labels.tolist(), map(str, scores), strict=True)
        ]
        with self._reporting():
            self._file.write((",\n" if self.detections else "\n") + ",\n".join(lines))
        self.detections += len(lines)


def _plain(identifier: Any) -> Any:
    """A numpy integer as an int; json cannot write the former."""
    return int(identifier) if isinstance(identifier, np.integer) else identifier


def iter_detections(path: Path | str) -> Iterator[dict[str, Any]]:
    """The records of a COCO result file one by one, checked, with memory for a piece of the file only.

    Raises:
        UserError: the file is missing, is not JSON or not an array, or a record lacks a key or has a wrong value.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8") as file:
            yield from checked_records(_array_items(file, path), str(path))
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a JSON file (byte {error.start} is not UTF-8)") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def checked_records(records: Iterable[Any], source: str) -> Iterator[dict[str, Any]]:
    """Passes result records on and stops at the first that is not one.

    Raises:
        UserError: names the source, the number of the record (from 0) and what is wrong with it.
    """
    for number, record in enumerate(records):
        problem = _problem(record)
        if problem:
            raise UserError(f"{source}: record {number} {problem}")
        yield record


def _problem(record: Any) -> str | None:
    """What is wrong with a record; None if nothing."""
    if not isinstance(record, dict):
        return f"is {json.dumps(record)[:40]}, not an object with {', '.join(_KEYS)}"
    for key in _KEYS:
        if key not in record:
            return f'has no "{key}" (it has: {", ".join(record) or "nothing"})'
    for key in ("image_id", "category_id"):
        if not isinstance(record[key], int | str):
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


def _array_items(file: IO[str], path: Path) -> Iterator[Any]:
    """Items of the JSON array in `file`, decoded one at a time from a buffer of some megabytes."""
    decode = json.JSONDecoder().raw_decode
    buffer = file.read(_CHUNK)
    position = _BLANKS.match(buffer).end()
    if buffer[position : position + 1] != "[":
        start = buffer[position : position + 20]
        raise UserError(f"{path} is not a result file: a JSON array starts with '[', this file with {start!r}")
    position = _BLANKS.match(buffer, position + 1).end()
    items = 0
    while True:
        try:
            if items == 0 and buffer[position : position + 1] == "]":
                break
            item, end = decode(buffer, position)
            end = _BLANKS.match(buffer, end).end()
            follower = buffer[end : end + 1]
            if follower not in (",", "]"):
                raise json.JSONDecodeError("',' or ']' expected", buffer, end)
        except json.JSONDecodeError as error:
            # The buffer ends inside of an item, unless so much is left that something else must be wrong.
            more = file.read(_CHUNK) if len(buffer) - position < _LONGEST else ""
            if not more:
                problem = f"{error.msg} after {items} records; was its writer interrupted?"
                raise UserError(f"{path} is not a complete JSON array: {problem}") from error
            buffer = buffer[position:] + more
            position = _BLANKS.match(buffer).end()
            continue
        yield item
        items += 1
        position = _BLANKS.match(buffer, end + 1).end()
        if follower == "]":
            break
    if buffer[position + (items == 0) :].strip() or file.read(1).strip():
        raise UserError(f"{path} goes on after the end of its JSON array")
