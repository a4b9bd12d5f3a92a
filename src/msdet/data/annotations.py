"""What annotation files say, before it is checked: one form for all formats, that of COCO.

A parser of a format fills a `RawAnnotations`; `build_dataset.py` checks it and makes samples of it, so that a box is
read, refused and named in the same way whatever file it came from.
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
    """An image: its id (any text or whole number), its file relative to the image folder, its size in px."""

    id: Any = None
    file_name: Any = None
    width: Any = None
    height: Any = None


class BoxEntry(msgspec.Struct, gc=False):
    """A box: [left, top, width, height] in px, and how its file wrote it where that is another form."""

    id: Any = None
    image_id: Any = None
    category_id: Any = None
    bbox: Any = None
    area: Any = None
    iscrowd: Any = 0
    difficult: Any = 0
    text: str = ""


class Category(msgspec.Struct, gc=False):
    """A class as the annotations number it."""

    id: Any = None
    name: Any = None


@dataclass(slots=True)
class ParseProblem:
    """Something wrong in a file.

    Attributes:
        kind: a short word by which reports group problems.
        place: file and line, or whatever finds it again; may be empty.
        what: the rest of the sentence.
    """

    kind: str
    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}" if self.place else self.what


@dataclass
class RawAnnotations:
    """What the annotations of a split say.

    Attributes:
        source: the file or folder that stands for the annotations in messages.
        image_dir: folder that the file names start from.
        images, annotations, categories: as in a COCO file; in other formats annotation ids count from 1.
        format: "coco", "voc", "yolo", "txt" or "mindrecord".
        raw: bytes of a COCO file, to tell line numbers from; else empty.
        places: where each annotation stands; None: by its id.
        problems: what the parser could not make sense of.
        store: where the images are, if they are no files.
    """

    source: Path
    image_dir: Path
    images: list[ImageEntry]
    annotations: list[BoxEntry]
    categories: list[Category]
    format: str = "coco"
    raw: bytes = b""
    places: list[str] | None = None
    problems: list[ParseProblem] = field(default_factory=list)
    store: ImageStore | None = None
    _line_of: dict[int, int] | None = field(default=None, repr=False, init=False)

    @property
    def title(self) -> str:
        """How messages call the source."""
        return f"{'annotation file' if self.source.suffix else 'folder'} {self.source}"

    def place(self, position: int) -> str:
        """Where an annotation stands, by its position in the list."""
        if self.places is not None:
            return self.places[position]
        annotation_id = self.annotations[position].id
        if annotation_id is None:
            return f"annotation at position {position}"
        return f"annotation {annotation_id}{self._line(annotation_id)}"

    def _line(self, annotation_id: Any) -> str:
        if self._line_of is None:
            self._line_of = _lines_of_ids(self.raw)
        line = self._line_of.get(annotation_id) if isinstance(annotation_id, int) else None
        return "" if line is None else f" (line {line})"

    def raise_problems(self) -> None:
        """Raises:
        UserError: the parser met something it could not make sense of.
        """
        collected = ProblemList(self)
        for problem in self.problems:
            collected.add(str(problem))
        collected.raise_if_any()


def _lines_of_ids(raw: bytes) -> dict[int, int]:
    """Line of each id behind "annotations" in a COCO file; a file written in one line needs no line numbers."""
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
    """What is wrong with annotations: the first few in words, all in number."""

    content: RawAnnotations
    count: int = 0
    shown: list[str] = field(default_factory=list)

    def add(self, what: str, position: int | None = None) -> None:
        """Counts a problem, of an annotation if its position is given, and keeps its words if it is among the first."""
        self.count += 1
        if len(self.shown) < MAX_SHOWN:
            self.shown.append(what if position is None else f"{self.content.place(position)}: {what}")

    def message(self) -> str:
        """The first problems and how many more there are."""
        more = f"; and {self.count - len(self.shown)} more" if self.count > len(self.shown) else ""
        return "; ".join(self.shown) + more

    def raise_if_any(self, remedy: str = "") -> None:
        """Raises:
        UserError: there are problems.
        """
        if self.count:
            number = "a problem" if self.count == 1 else f"{self.count} problems"
            raise UserError(f"{self.content.title} has {number}: {self.message()}{remedy}")


def check_unique(content: RawAnnotations, what: str, values: list[Any], remedy: str = "") -> None:
    """Raises:
    UserError: a value occurs twice; `remedy` ends the sentence.
    """
    if len(set(values)) == len(values):
        return
    problems = ProblemList(content)
    for value, times in Counter(values).items():
        if times > 1:
            problems.add(f"the {what} {value!r} occurs {times} times")
    problems.raise_if_any(remedy)


def number_categories(names: Sequence[str]) -> list[Category]:
    """Categories of a format that has none: COCO's own ids where all names are COCO's, else 1, 2, 3 in their order."""
    coco_ids = {name: number for number, name in COCO_CATEGORIES.items()}
    if names and all(name in coco_ids for name in names):
        return [Category(coco_ids[name], name) for name in names]
    return [Category(number, name) for number, name in enumerate(names, 1)]


def leaves_folder(file_name: str) -> bool:
    """True if a relative file name would lead out of its folder, or is no relative name."""
    if "/" not in file_name and "\\" not in file_name and "\0" not in file_name:
        return file_name in (".", "..")
    parts = file_name.replace("\\", "/").split("/")
    return parts[0] == "" or ".." in parts or "\0" in file_name or parts[0].endswith(":")
