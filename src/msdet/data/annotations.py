"""Annotations as parsed from their files, before validation, in COCO's data model for all formats.

The parser of a format returns `RawAnnotations`; `build_dataset.py` validates them and builds the samples, so that every
format gets the same checks and the same messages.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from msdet.data.class_lists import COCO_CATEGORIES
from msdet.data.dataset import ImageStore
from msdet.errors import UserError

MAX_SHOWN = 3


class ImageEntry(msgspec.Struct, gc=False):
    """An image: its id (a string or an integer), its file relative to the image folder, its size in pixels."""

    id: Any = None
    file_name: Any = None
    width: Any = None
    height: Any = None


class BoxEntry(msgspec.Struct, gc=False):
    """A box: [left, top, width, height] in pixels; `text` is the original notation if its format has another one."""

    id: Any = None
    image_id: Any = None
    category_id: Any = None
    bbox: Any = None
    area: Any = None
    iscrowd: Any = 0
    difficult: Any = 0
    text: str = ""


class Category(msgspec.Struct, gc=False):
    """A class with its category id in the annotations."""

    id: Any = None
    name: Any = None


@dataclass(slots=True)
class ParseProblem:
    """Something in an annotation file that its parser could not read.

    Attributes:
        kind: short name by which reports group problems.
        place: file and line, or another location; may be empty.
        message: the description that follows the place.
    """

    kind: str
    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


@dataclass
class RawAnnotations:
    """The unvalidated annotations of a split.

    Attributes:
        source: the annotation file or folder, as messages name it.
        image_dir: folder to which the file names are relative.
        images, annotations, categories: as in a COCO file; in other formats annotation ids count from 1.
        format: "coco", "voc", "yolo", "txt" or "mindrecord".
        json_bytes: content of a COCO file, from which line numbers are looked up; empty for other formats.
        places: file and line of each annotation; None: messages name an annotation by its id.
        problems: what the parser could not read.
        store: reads the images where they are not separate files.
    """

    source: Path
    image_dir: Path
    images: list[ImageEntry]
    annotations: list[BoxEntry]
    categories: list[Category]
    format: str = "coco"
    json_bytes: bytes = b""
    places: list[str] | None = None
    problems: list[ParseProblem] = field(default_factory=list)
    store: ImageStore | None = None
    _line_of: dict[int, int] | None = field(default=None, repr=False, init=False)

    @property
    def title(self) -> str:
        """The source with its kind, for messages."""
        return f"{'annotation file' if self.source.suffix else 'folder'} {self.source}"

    def place(self, position: int) -> str:
        """Location of the annotation at a position of the list, for messages."""
        if self.places is not None:
            return self.places[position]
        annotation_id = self.annotations[position].id
        if annotation_id is None:
            return f"annotation at position {position}"
        return f"annotation {annotation_id}{self._line(annotation_id)}"

    def _line(self, annotation_id: Any) -> str:
        if self._line_of is None:
            self._line_of = _lines_of_ids(self.json_bytes)
        line = self._line_of.get(annotation_id) if isinstance(annotation_id, int) else None
        return "" if line is None else f" (line {line})"

    def raise_problems(self) -> None:
        """Raises:
        UserError: the parser could not read a part of the annotations.
        """
        collected = ProblemList(self)
        for problem in self.problems:
            collected.add(str(problem))
        collected.raise_if_any()


def _lines_of_ids(raw: bytes) -> dict[int, int]:
    """Line number of each id after "annotations" in a COCO file; empty for a file written in a single line."""
    lines: dict[int, int] = {}
    if raw.count(b"\n", 0, 1 << 20) < 2:
        return lines
    position = max(raw.find(b'"annotations"'), 0)
    line = raw.count(b"\n", 0, position) + 1
    for match in re.compile(rb'"id"\s*:\s*(\d{1,18})\b').finditer(raw, position):
        line += raw.count(b"\n", position, match.start())
        position = match.start()
        lines.setdefault(int(match[1]), line)
    return lines


@dataclass
class ProblemList:
    """Collects the problems of annotations: the first `MAX_SHOWN` as text, the total as a count."""

    raw: RawAnnotations
    count: int = 0
    shown: list[str] = field(default_factory=list)

    def add(self, message: str, position: int | None = None) -> None:
        """Counts a problem; with a position, the message is prefixed with the location of that annotation."""
        self.count += 1
        if len(self.shown) < MAX_SHOWN:
            self.shown.append(message if position is None else f"{self.raw.place(position)}: {message}")

    def message(self) -> str:
        """The first problems and the number of further ones."""
        more = f"; and {self.count - len(self.shown)} more" if self.count > len(self.shown) else ""
        return "; ".join(self.shown) + more

    def raise_if_any(self, remedy: str = "") -> None:
        """Raises:
        UserError: at least one problem was added; `remedy` ends the message.
        """
        if self.count:
            number = "a problem" if self.count == 1 else f"{self.count} problems"
            raise UserError(f"{self.raw.title} has {number}: {self.message()}{remedy}")


def check_unique(raw: RawAnnotations, what: str, values: list[Any], remedy: str = "") -> None:
    """Raises:
    UserError: a value occurs more than once; `what` names it in the message, which `remedy` ends.
    """
    if len(set(values)) == len(values):
        return
    problems = ProblemList(raw)
    for value, times in Counter(values).items():
        if times > 1:
            problems.add(f"the {what} {value!r} occurs {times} times")
    problems.raise_if_any(remedy)


def number_categories(names: Sequence[str]) -> list[Category]:
    """Categories for a format without category ids: COCO's ids if all names are COCO's, else 1, 2, 3, ... in order."""
    coco_ids = {name: number for number, name in COCO_CATEGORIES.items()}
    if names and all(name in coco_ids for name in names):
        return [Category(coco_ids[name], name) for name in names]
    return [Category(number, name) for number, name in enumerate(names, 1)]


def leaves_folder(file_name: str) -> bool:
    """True if a file name is not relative or points outside its folder."""
    if "/" not in file_name and "\\" not in file_name and "\0" not in file_name:
        return file_name in (".", "..")
    parts = file_name.replace("\\", "/").split("/")
    return parts[0] == "" or ".." in parts or "\0" in file_name or parts[0].endswith(":")
