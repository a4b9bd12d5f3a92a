"""The checks of COCO annotations: one list of problems, ids, image files, and boxes all at once."""

from __future__ import annotations

import contextlib
import difflib
import itertools
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from src.data.sample import ReadReport
from src.errors import UserError

SHOWN = 3
# A box may stick out of its image by this many pixels: the rounding of corners to hundredths and of sizes to pixels.
OVERHANG = 1.0
# The two boxes of zero height in COCO's own instances_train2014.json and instances_train2017.json, by annotation id
# (cocodataset/cocoapi#355).
_KNOWN_DEFECTS = {918: [296.65, 388.33, 1.03, 0.0], 2206849: [9.98, 188.56, 5.54, 0.0]}


def known_defect(annotation_id: Any, bbox: Any) -> bool:
    """True for the two boxes without height that COCO itself published."""
    return type(annotation_id) is int and _KNOWN_DEFECTS.get(annotation_id) == bbox


@dataclass
class Problems:
    """What is wrong with an annotation file: the first few in words, all in number.

    Attributes:
        ann_file: named in the message.
        raw: the file's bytes, to tell line numbers from; empty for none.
    """

    ann_file: Path
    raw: bytes = b""
    count: int = 0
    shown: list[str] = field(default_factory=list)

    def add(self, what: str, annotation_id: Any = None) -> None:
        """Counts a problem, and keeps its words if it is among the first."""
        self.count += 1
        if len(self.shown) >= SHOWN:
            return
        if annotation_id is not None:
            what = f"annotation {annotation_id}{self._line(annotation_id)}: {what}"
        self.shown.append(what)

    def _line(self, annotation_id: Any) -> str:
        # A file written in one line needs no line number; in others the id is looked for behind "annotations".
        if not isinstance(annotation_id, int) or self.raw.count(b"\n", 0, 1 << 20) < 2:
            return ""
        start = max(self.raw.find(b'"annotations"'), 0)
        match = re.compile(rb'"id"\s*:\s*%d\b' % annotation_id).search(self.raw, start)
        if match is None:
            return ""
        line = self.raw.count(b"\n", 0, match.start()) + 1
        return f" (line {line})"

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
            raise UserError(f"annotation file {self.ann_file} has {number}: {self.message()}{remedy}")


def nearest_name(name: str, known: Sequence[str]) -> str | None:
    """The known name most like `name`, or None if none is near."""
    lowered = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)
    return lowered[near[0]] if near else None


def check_unique(ann_file: Path, what: str, values: list[Any]) -> None:
    """Raises:
    UserError: a value occurs twice.
    """
    if len(set(values)) == len(values):
        return
    problems = Problems(ann_file)
    for value, times in Counter(values).items():
        if times > 1:
            problems.add(f"the {what} {value!r} occurs {times} times")
    problems.raise_if_any()


def check_image_files(ann_file: Path, image_dir: Path, file_names: list[str]) -> None:
    """Looks for every image by listing each folder once.

    Raises:
        UserError: the folder or images are missing.
    """
    if not image_dir.is_dir():
        raise UserError(f"the image folder {image_dir} of {ann_file} is missing")
    there: dict[str, set[str]] = {}
    missing = []
    for file_name in file_names:
        folder, _, name = file_name.rpartition("/")
        if folder not in there:
            there[folder] = _listing(image_dir / folder)
        if name not in there[folder]:
            missing.append(file_name)
    if missing:
        shown = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
        raise UserError(
            f"{len(missing)} of {len(file_names)} images named in {ann_file} are missing in {image_dir}: {shown}"
        )


def _listing(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except OSError:
        return set()


@dataclass
class BoxCheck:
    """Checks all boxes of a file at once.

    Attributes:
        ann_file, raw: for messages.
        images, annotations: the file's lists, with attributes id, file_name and id, bbox.
        rows: (n,) position of each annotation's image.
        sizes: (images, 2) width and height in pixels; 0 if unknown, and then nothing is outside.
    """

    ann_file: Path
    raw: bytes
    images: list[Any]
    annotations: list[Any]
    rows: np.ndarray
    sizes: np.ndarray

    def run(self, on_bad_box: str) -> tuple[np.ndarray, np.ndarray, ReadReport]:
        """Returns float32 (n, 4) xyxy boxes cut to their images, which of them (n,) to keep, and a report.

        Raises:
            UserError: there are bad boxes and `on_bad_box` is not `skip`.
        """
        xywh = self._numbers()
        limits = np.tile(self.sizes[self.rows].astype(np.float64), 2)
        limits[limits == 0] = np.inf
        corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        overhang = np.maximum(-corners[:, :2], corners[:, 2:] - limits[:, 2:]).max(axis=1, initial=0)
        boxes = np.clip(corners, 0, limits).astype(np.float32)
        finite = np.isfinite(xywh).all(axis=1)
        with_area = (xywh[:, 2:] > 0).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        keep = finite & with_area & (overhang <= OVERHANG)
        # Sums of hundredths miss the border by less than a millionth; that is no overhang worth a word.
        report = ReadReport(clipped=int((keep & (overhang > 1e-6)).sum()))
        problems = Problems(self.ann_file, self.raw)
        known = Problems(self.ann_file, self.raw)
        for position in np.flatnonzero(~keep).tolist():
            annotation = self.annotations[position]
            defect = known_defect(annotation.id, annotation.bbox)
            what = self._describe(position, finite[position], xywh[position], overhang[position])
            (known if defect else problems).add(what, annotation.id)
        if on_bad_box != "skip":
            problems.raise_if_any(". Mend the file, or set on_bad_box=skip to leave such boxes out")
        report.skipped = problems.count + known.count
        report.notes = [note.message() for note in (problems, known) if note.count]
        return boxes, keep, report

    def _numbers(self) -> np.ndarray:
        """All boxes as float64 (n, 4); what is no list of four numbers becomes NaN."""
        lists = [annotation.bbox for annotation in self.annotations]
        try:
            xywh = np.array(lists, dtype=np.float64)
            # numpy reads the text "12" as the number 12, and true as 1.
            if xywh.shape == (len(lists), 4) and set(map(type, itertools.chain.from_iterable(lists))) <= {int, float}:
                return xywh
        except (TypeError, ValueError, OverflowError):
            pass
        xywh = np.full((len(lists), 4), np.nan)
        for position, values in enumerate(lists):
            if isinstance(values, list) and len(values) == 4 and all(type(value) in (int, float) for value in values):
                # A whole number may be too large for any float.
                with contextlib.suppress(OverflowError):
                    xywh[position] = values
        return xywh

    def _describe(self, position: int, finite: bool, xywh: np.ndarray, overhang: float) -> str:
        image = self.images[self.rows[position]]
        width, height = self.sizes[self.rows[position]]
        bbox = self.annotations[position].bbox
        if not finite:
            what = "is not four finite numbers"
        elif (xywh[2:] < 0).any():
            what = "has a negative width or height"
        elif (xywh[2:] == 0).any() or overhang <= OVERHANG:
            what = "has no area"
        else:
            what = f"sticks out of its image of {width}x{height} by {overhang:.4g} px"
        return f"image {image.id!r} ({image.file_name}): the box {bbox} (left, top, width, height) {what}"
