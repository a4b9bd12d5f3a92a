"""Vectorised checks of all boxes of a split, missing image files, and nearest class names."""

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

# Rounding error of sums of hundredths; a smaller overhang is ignored.
_ROUNDING = 1e-6
# A box may exceed its image by this many pixels: the rounding of corners to hundredths and of sizes to pixels.
OVERHANG = 1.0
# In images larger than this, in px, boxes from 0 to 1 are taken for normalised coordinates.
_MIN_NORMALISED_SIDE = 16
# The two boxes of zero height in COCO's own instances_train2014.json and instances_train2017.json, by annotation id
# (cocodataset/cocoapi#355).
_KNOWN_DEFECTS = {918: [296.65, 388.33, 1.03, 0.0], 2206849: [9.98, 188.56, 5.54, 0.0]}


def known_defect(annotation_id: Any, bbox: Any) -> bool:
    """Whether this is one of the two boxes of zero height in the published COCO files."""
    return type(annotation_id) is int and _KNOWN_DEFECTS.get(annotation_id) == bbox


def nearest_name(name: str, known: Sequence[str]) -> str | None:
    """The most similar known name, or None if none is similar."""
    lowered = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)
    return lowered[near[0]] if near else None


def missing_files(folder: Path, file_names: Sequence[str]) -> list[str]:
    """The file names that do not exist in a folder; each subfolder is listed once."""
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


class BoxCheckResult(NamedTuple):
    """All boxes of a split after the check.

    Attributes:
        corners: float32 (n, 4) xyxy px, clipped to their images.
        xywh: float64 (n, 4) as in the file, clipped to their images.
        keep: bool (n,): which boxes are valid.
        clipped: bool (n,): which of the valid boxes were clipped.
        bad: the invalid boxes.
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
        raw: the annotations.
        rows: (n,) position of each annotation's image.
        sizes: int64 (images, 2) width and height in pixels; 0 if unknown, then no box is outside.
    """

    raw: RawAnnotations
    rows: np.ndarray
    sizes: np.ndarray

    def run(self, on_bad_box: str, report: ReadReport) -> BoxCheckResult:
        """Like `check_boxes`; also fills the report.

        Raises:
            UserError: there are invalid boxes and `on_bad_box` is not `skip`.
        """
        result = self.check_boxes()
        if message := self.describe_normalised(result):
            raise UserError(f"{self.raw.title}: {message}")
        report.clipped = int(result.clipped.sum())
        problems, known = ProblemList(self.raw), ProblemList(self.raw)
        for box in result.bad:
            annotation = self.raw.annotations[box.position]
            (known if known_defect(annotation.id, annotation.bbox) else problems).add(box.text, box.position)
        if on_bad_box != "skip":
            problems.raise_if_any(". Fix the file, or set on_bad_box=skip to skip such boxes")
        report.skipped = problems.count + known.count
        report.notes = [note.message() for note in (problems, known) if note.count]
        return result

    def describe_normalised(self, result: BoxCheckResult) -> str:
        """A message if all boxes look normalised to 0..1 instead of being in pixels; otherwise empty."""
        boxes = result.xywh
        sides = self.sizes[self.rows].min(axis=1, initial=2**31)
        # One box of less than a pixel in the corner of an image is possible; a dataset of only such boxes is not.
        with np.errstate(invalid="ignore"):
            is_small = (boxes[:, :2] + boxes[:, 2:] <= 1.001).all() and (boxes[:, 2:] > 0).all()
        if len(boxes) and is_small and (sides >= _MIN_NORMALISED_SIDE).all():
            return (
                f"all {len(boxes)} boxes lie between 0 and 1, as normalised coordinates do ({self._box_text(0)}); "
                "pixels are expected: multiply them by width and height of their images"
            )
        return ""

    def check_boxes(self) -> BoxCheckResult:
        """Clips and checks every box."""
        xywh = self._as_array()
        # Infinite values are reported below.
        with np.errstate(invalid="ignore"):
            return self._check(xywh)

    def _check(self, xywh: np.ndarray) -> BoxCheckResult:
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
        return BoxCheckResult(boxes, exact, keep, keep & sticks_out, bad)

    def _as_array(self) -> np.ndarray:
        """All boxes as float64 (n, 4); NaN where a box is not a list of four numbers."""
        lists = [annotation.bbox for annotation in self.raw.annotations]
        try:
            xywh = np.array(lists, dtype=np.float64)
            # numpy would convert the string "12" and the value true to numbers.
            if xywh.shape == (len(lists), 4) and set(map(type, itertools.chain.from_iterable(lists))) <= {int, float}:
                return xywh
        except (TypeError, ValueError, OverflowError):
            pass
        xywh = np.full((len(lists), 4), np.nan)
        for position, values in enumerate(lists):
            if isinstance(values, list) and len(values) == 4 and all(type(value) in (int, float) for value in values):
                # An integer may be too large for a float.
                with contextlib.suppress(OverflowError):
                    xywh[position] = values
        return xywh

    def _box_text(self, position: int) -> str:
        annotation = self.raw.annotations[position]
        return annotation.text or f"{annotation.bbox} (left, top, width, height)"

    def _describe(self, position: int, finite: bool, xywh: np.ndarray, overhang: float) -> BadBox:
        image = self.raw.images[self.rows[position]]
        width, height = self.sizes[self.rows[position]]
        if not finite:
            fault, what = Fault.NOT_NUMERIC, "is not four finite numbers"
        elif (xywh[2:] < 0).any():
            fault, what = Fault.NEGATIVE_SIZE, "has a negative width or height"
        elif (xywh[2:] == 0).any() or overhang <= OVERHANG:
            fault, what = Fault.NO_AREA, "has no area"
        else:
            fault, what = Fault.OUTSIDE, f"exceeds its image of {width}x{height} by {overhang:.4g} px"
        text = f"image {image.id!r} ({image.file_name}): the box {self._box_text(position)} {what}"
        return BadBox(position, fault, text)
