"""The checks of all boxes of a split at once, of image files, and names that are nearly right."""

from __future__ import annotations

import contextlib
import difflib
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from msdet.data.annotations import ProblemList, RawAnnotations
from msdet.data.dataset import ReadReport
from msdet.data.validation.faults import BadBox, Fault
from msdet.errors import UserError
from msdet.ops.boxes import xywh_to_xyxy, xyxy_to_xywh

# Sums of hundredths miss the border by less; that is no overhang worth a word.
_ROUNDING = 1e-6
# A box may stick out of its image by this many pixels: the rounding of corners to hundredths and of sizes to pixels.
OVERHANG = 1.0
# Boxes from 0 to 1 are shares of images that are larger than this, in px.
_LEAST_SIDE = 16
# The two boxes of zero height in COCO's own instances_train2014.json and instances_train2017.json, by annotation id
# (cocodataset/cocoapi#355).
_KNOWN_DEFECTS = {918: [296.65, 388.33, 1.03, 0.0], 2206849: [9.98, 188.56, 5.54, 0.0]}


def known_defect(annotation_id: Any, bbox: Any) -> bool:
    """True for the two boxes without height that COCO itself published."""
    return type(annotation_id) is int and _KNOWN_DEFECTS.get(annotation_id) == bbox


def nearest_name(name: str, known: Sequence[str]) -> str | None:
    """The known name most like `name`, or None if none is near."""
    lowered = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)
    return lowered[near[0]] if near else None


def missing_files(folder: Path, file_names: Sequence[str]) -> list[str]:
    """The names that are not in a folder; each of its folders is listed once."""
    there: dict[str, set[str]] = {}
    missing = []
    for file_name in file_names:
        inner, _, name = file_name.rpartition("/")
        if inner not in there:
            there[inner] = _listing(folder / inner)
        if name not in there[inner]:
            missing.append(file_name)
    return missing


def _listing(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except OSError:
        return set()


class MeasuredBoxes(NamedTuple):
    """All boxes of a split.

    Attributes:
        corners: float32 (n, 4) xyxy px, cut to their images.
        xywh: float64 (n, 4) as their file has them, cut too where they stick out.
        keep: bool (n,): which are good.
        clipped: bool (n,): which of those were cut.
        bad: each of the others.
    """

    corners: np.ndarray
    xywh: np.ndarray
    keep: np.ndarray
    clipped: np.ndarray
    bad: list[BadBox]


@dataclass
class BoxCheck:
    """Checks all boxes of a split at once.

    Attributes:
        content: the annotations.
        rows: (n,) position of each annotation's image.
        sizes: int64 (images, 2) width and height in pixels; 0 if unknown, and then nothing is outside.
    """

    content: RawAnnotations
    rows: np.ndarray
    sizes: np.ndarray

    def run(self, on_bad_box: str, report: ReadReport) -> MeasuredBoxes:
        """As `measure`; fills the report.

        Raises:
            UserError: there are bad boxes and `on_bad_box` is not `skip`.
        """
        measured = self.measure()
        if shares := self.shares(measured):
            raise UserError(f"{self.content.title}: {shares}")
        report.clipped = int(measured.clipped.sum())
        problems, known = ProblemList(self.content), ProblemList(self.content)
        for box in measured.bad:
            annotation = self.content.annotations[box.position]
            (known if known_defect(annotation.id, annotation.bbox) else problems).add(box.text, box.position)
        if on_bad_box != "skip":
            problems.raise_if_any(". Mend the file, or set on_bad_box=skip to leave such boxes out")
        report.skipped = problems.count + known.count
        report.notes = [note.message() for note in (problems, known) if note.count]
        return measured

    def shares(self, measured: MeasuredBoxes) -> str:
        """A sentence where all boxes look like shares of their images instead of pixels; else empty."""
        boxes = measured.xywh
        sides = self.sizes[self.rows].min(axis=1, initial=2**31)
        # A box of less than a pixel in the corner of an image may be one; all of a data set are none.
        with np.errstate(invalid="ignore"):
            is_small = (boxes[:, :2] + boxes[:, 2:] <= 1.001).all() and (boxes[:, 2:] > 0).all()
        if len(boxes) and is_small and (sides >= _LEAST_SIDE).all():
            return (
                f"all {len(boxes)} boxes lie between 0 and 1, as shares of an image do ({self._written(0)}): pixels "
                "are due. Multiply them by width and height of their images"
            )
        return ""

    def measure(self) -> MeasuredBoxes:
        """Cuts and judges every box."""
        xywh = self._numbers()
        # What is infinite is bad, and told below.
        with np.errstate(invalid="ignore"):
            return self._measure(xywh)

    def _measure(self, xywh: np.ndarray) -> MeasuredBoxes:
        limits = np.tile(self.sizes[self.rows].astype(np.float64), 2)
        limits[limits == 0] = np.inf
        corners = xywh_to_xyxy(xywh)
        overhang = np.maximum(-corners[:, :2], corners[:, 2:] - limits[:, 2:]).max(axis=1, initial=0)
        cut = np.clip(corners, 0, limits)
        boxes = cut.astype(np.float32)
        finite = np.isfinite(xywh).all(axis=1)
        with_area = (xywh[:, 2:] > 0).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        keep = finite & with_area & (overhang <= OVERHANG)
        sticks_out = overhang > _ROUNDING
        bad = [
            self._describe(position, finite[position], xywh[position], overhang[position])
            for position in np.flatnonzero(~keep).tolist()
        ]
        exact = np.where(sticks_out[:, None], xyxy_to_xywh(cut), xywh)
        return MeasuredBoxes(boxes, exact, keep, keep & sticks_out, bad)

    def _numbers(self) -> np.ndarray:
        """All boxes as float64 (n, 4); what is no list of four numbers becomes NaN."""
        lists = [annotation.bbox for annotation in self.content.annotations]
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

    def _written(self, position: int) -> str:
        annotation = self.content.annotations[position]
        return annotation.text or f"{annotation.bbox} (left, top, width, height)"

    def _describe(self, position: int, finite: bool, xywh: np.ndarray, overhang: float) -> BadBox:
        image = self.content.images[self.rows[position]]
        width, height = self.sizes[self.rows[position]]
        if not finite:
            fault, what = Fault.NO_NUMBERS, "is not four finite numbers"
        elif (xywh[2:] < 0).any():
            fault, what = Fault.NEGATIVE_SIZE, "has a negative width or height"
        elif (xywh[2:] == 0).any() or overhang <= OVERHANG:
            fault, what = Fault.NO_AREA, "has no area"
        else:
            fault, what = Fault.OUTSIDE, f"sticks out of its image of {width}x{height} by {overhang:.4g} px"
        text = f"image {image.id!r} ({image.file_name}): the box {self._written(position)} {what}"
        return BadBox(position, fault, text)
