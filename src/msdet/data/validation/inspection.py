"""Collects all problems of annotations (reading stops after the first few) and makes a cleaned copy."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from msdet.data.annotations import BoxEntry, Category, ImageEntry, RawAnnotations, leaves_folder
from msdet.data.areas import is_area
from msdet.data.build_dataset import annotation_problem, is_valid_size
from msdet.data.formats.file_names import shared_files
from msdet.data.images.notes import EXIF, exif_note
from msdet.data.validation.boxes import BoxCheck, known_defect, nearest_name
from msdet.data.validation.faults import BadBox, Fault
from msdet.data.validation.findings import SplitReport
from msdet.data.validation.image_scan import ImageInfo

NORMALISED_BOXES = "normalised box coordinates"
# A box that exceeds its image is clipped if at least this fraction of it remains, else removed.
_MIN_REMAINDER = 0.5


def inspect_annotations(
    raw: RawAnnotations, class_names: Sequence[str], infos: Mapping[str, ImageInfo], report: SplitReport
) -> RawAnnotations:
    """Adds all problems to `report` and returns a copy of the annotations without them.

    Args:
        raw: as parsed; not modified.
        class_names: of the configuration; empty: all classes of the annotations.
        infos: scan result of each image file by name; an image without one is not checked.
        report: receives the findings.
    """
    return _Inspector(raw, class_names, infos, report).run()


class _Inspector:
    def __init__(
        self, raw: RawAnnotations, class_names: Sequence[str], infos: Mapping[str, ImageInfo], report: SplitReport
    ) -> None:
        self.raw, self.names, self.infos, self.report = raw, list(class_names), infos, report

    def run(self) -> RawAnnotations:
        for problem in self.raw.problems:
            self.report.add(problem.kind, "error", str(problem), fix="removed")
        categories, renamed = self._categories()
        self._first_id = self._first_ids()
        images = self._images()
        kept, rows = self._annotations(images, categories, renamed)
        sizes = np.array([(image.width or 0, image.height or 0) for image in images], np.int64).reshape(-1, 2)
        entries = self._boxes(images, kept, rows, sizes)
        # Line numbers and problems of the original file do not apply to the cleaned copy.
        return replace(
            self.raw,
            images=images,
            annotations=entries,
            categories=categories,
            places=None,
            json_bytes=b"",
            problems=[],
        )

    def _categories(self) -> tuple[list[Category], dict[int, int]]:
        """Valid categories under the names of the configuration, and a map from old to new ids."""
        valid: list[Category] = []
        for position, category in enumerate(self.raw.categories):
            if type(category.id) is not int or not isinstance(category.name, str) or not category.name.strip():
                text = f"category {position} needs an integer 'id' and a string 'name'"
                self._add("malformed category", "error", text, "removed with its boxes")
            elif any(other.id == category.id for other in valid):
                text = f"the category id {category.id} is used twice ({category.name!r})"
                self._add("duplicate category", "error", text, "the first one is kept")
            elif any(other.name == category.name for other in valid):
                first = next(other for other in valid if other.name == category.name)
                text = f"the category name {category.name!r} is used twice, with ids {first.id} and {category.id}"
                self._add("duplicate category", "error", text, f"boxes of {category.id} are moved to {first.id}")
                valid.append(Category(category.id, category.name))
            else:
                valid.append(category)
        return self._known_categories(valid)

    def _known_categories(self, valid: list[Category]) -> tuple[list[Category], dict[int, int]]:
        boxes = Counter(entry.category_id for entry in self.raw.annotations if type(entry.category_id) is int)
        result: list[Category] = []
        new_ids: dict[int, int] = {}
        by_name: dict[str, int] = {}
        for category in sorted(valid, key=lambda category: category.name not in self.names):
            name = category.name
            if self.names and name not in self.names:
                name = self._match_config_class(category, boxes[category.id])
            if name is None:
                continue
            if name not in by_name:
                by_name[name] = category.id
                result.append(Category(category.id, name))
            new_ids[category.id] = by_name[name]
        return sorted(result, key=lambda category: category.id), new_ids

    def _match_config_class(self, category: Category, boxes: int) -> str | None:
        """The configured class whose name differs only in spelling, or None; adds a finding either way."""
        if not boxes:
            return None
        candidates = [name for name in self.names if _normalise_name(name) == _normalise_name(category.name)]
        near = nearest_name(category.name, self.names)
        hint = f"did you mean {near!r}?" if near else f"it has {len(self.names)} classes"
        text = f"the category {category.name!r} ({boxes} boxes) is not among the classes of the configuration ({hint})"
        matched = candidates[0] if len(candidates) == 1 else None
        self._add("unknown class", "error", text, f"renamed to {matched!r}" if matched else "its boxes are removed")
        return matched

    def _first_ids(self) -> dict[Any, Any]:
        """Maps each further id of a file with several image ids to its first id, which gets all boxes."""
        first_id: dict[Any, Any] = {}
        for name, ids in shared_files(self.raw):
            usable = [number for number in dict.fromkeys(ids) if type(number) in (int, str)]
            if len(usable) > 1:
                text = (
                    f"{name} has several image ids, {', '.join(map(repr, usable))}: for each of them the objects of "
                    "the others are background"
                )
                self._add("file with several image ids", "error", text, f"its boxes move to {usable[0]!r}", name)
                first_id |= dict.fromkeys(usable[1:], usable[0])
        return first_id

    def _images(self) -> list[ImageEntry]:
        """Valid entries of images that can be read, with their sizes."""
        kept: list[ImageEntry] = []
        seen: set[Any] = set()
        for position, image in enumerate(self.raw.images):
            if type(image.id) in (int, str) and image.id in self._first_id:
                continue
            problem = self._image_problem(position, image, seen)
            if problem:
                self._add(*problem, fix="removed with its boxes", image=str(image.file_name))
                continue
            seen.add(image.id)
            kept.append(self._with_size(image))
        return kept

    def _image_problem(self, position: int, image: ImageEntry, seen: set[Any]) -> tuple[str, str, str] | None:
        """Kind, severity and text of the problem that makes an image unusable, or None."""
        if type(image.id) not in (int, str):
            return "malformed image entry", "error", f"image {position} has no usable id ({image.id!r})"
        if image.id in seen:
            return "duplicate image id", "error", f"the image id {image.id!r} is used twice ({image.file_name})"
        if not isinstance(image.file_name, str) or not image.file_name:
            return "malformed image entry", "error", f"image {image.id!r} has no file_name"
        if leaves_folder(image.file_name):
            text = f"image {image.id!r}: file_name {image.file_name!r} points outside the image folder"
            return "file name outside the folder", "error", text
        info = self.infos.get(image.file_name)
        if info is not None and info.error:
            return "missing image" if info.missing else "corrupt image", "error", info.error
        if any(side and not is_valid_size(side) for side in (image.width, image.height)):
            text = f"image {image.id!r} has width {image.width!r} and height {image.height!r}"
            return "malformed image entry", "error", text
        if info is not None and image.width and image.height and not info.fits(image.width, image.height):
            path, annotated = self.raw.image_dir / image.file_name, f"{image.width:g}x{image.height:g}"
            text = f"image {path} has {info.width}x{info.height} pixels, its annotation has {annotated}"
            return "size differs from the annotation", "error", text
        return None

    def _with_size(self, image: ImageEntry) -> ImageEntry:
        info = self.infos.get(image.file_name)
        width, height = int(image.width or 0), int(image.height or 0)
        if info is not None and not (width and height):
            width, height = info.width, info.height
        if info is not None and info.header is not None:
            path = self.raw.image_dir / image.file_name
            exif_problem = exif_note(path, info.header, (int(image.width or 0), int(image.height or 0)))
            for note in (*info.notes, *([exif_problem] if exif_problem else ())):
                self._add(note.kind, "warning", note.text, image=image.file_name)
            if info.header.orientation != 1 and not exif_problem:
                text = f"image {path} has EXIF orientation {info.header.orientation}: it is rotated upright when read"
                self._add(EXIF, "note", text, image=image.file_name)
        return ImageEntry(image.id, image.file_name, width, height)

    def _annotations(
        self, images: list[ImageEntry], categories: list[Category], new_ids: Mapping[int, int]
    ) -> tuple[list[int], list[int]]:
        """Positions of the annotations with valid ids, and the rows of their images."""
        row_of = {image.id: row for row, image in enumerate(images)}
        known_ids = {image.id: 0 for image in self.raw.images if type(image.id) in (int, str)}
        name_of = {category.id: category.name for category in self.raw.categories if type(category.id) is int}
        kept, rows, seen = [], [], set()
        for position, entry in enumerate(self.raw.annotations):
            found = annotation_problem(entry, known_ids, name_of, [], dict.fromkeys(name_of, 0))
            if found:
                self._add(found.fault.value, "error", f"{self.raw.place(position)}: {found.text}", "removed")
            elif entry.id in seen:
                text = f"{self.raw.place(position)}: the annotation id {entry.id!r} is used twice"
                self._add("duplicate annotation id", "error", text, "gets a new id")
            image_id = entry.image_id if found else self._first_id.get(entry.image_id, entry.image_id)
            if found or image_id not in row_of or entry.category_id not in new_ids:
                continue
            seen.add(entry.id)
            kept.append(position)
            rows.append(row_of[image_id])
        self._new_ids = new_ids
        return kept, rows

    def _boxes(self, images: list[ImageEntry], kept: list[int], rows: list[int], sizes: np.ndarray) -> list[BoxEntry]:
        """Valid boxes, clipped to their images, without duplicates and without boxes of which too little remains."""
        subset = replace(
            self.raw,
            images=images,
            annotations=[self.raw.annotations[position] for position in kept],
            places=None if self.raw.places is None else [self.raw.places[position] for position in kept],
        )
        check = BoxCheck(subset, np.array(rows, np.int64), sizes)
        result = check.check_boxes()
        boxes, xywh, keep, clipped, bad = result
        if normalised := check.describe_normalised(result):
            self._add(NORMALISED_BOXES, "error", f"{self.raw.source}: {normalised}")
        invalid = set()
        for box in bad:
            keep[box.position] = self._report_bad_box(subset, box, images[rows[box.position]], boxes[box.position])
            invalid.add(box.position)
        if clipped.any():
            text = f"{int(clipped.sum())} boxes exceed their images by at most a pixel, as rounding does"
            self._add("box clipped by less than a pixel", "note", text, "clipped")
        seen: set[tuple] = set()
        entries: list[BoxEntry] = []
        for index in np.flatnonzero(keep).tolist():
            entry, image = subset.annotations[index], images[rows[index]]
            category = self._new_ids[entry.category_id]
            key = (rows[index], category, *boxes[index].tolist())
            if key in seen:
                text = f"{subset.place(index)}: image {image.id!r} ({image.file_name}): the box is a duplicate"
                self._add("duplicate box", "warning", text, "removed", image.file_name)
                continue
            seen.add(key)
            bbox = xywh[index].tolist()
            area = None if index in invalid else self._area(subset, index, image.file_name)
            entries.append(
                BoxEntry(len(entries) + 1, image.id, category, bbox, area, entry.iscrowd, entry.difficult, entry.text)
            )
        return entries

    def _area(self, subset: RawAnnotations, index: int, image: str) -> Any:
        """The area of an annotation, or None with a finding if it is invalid."""
        area = subset.annotations[index].area
        if area is None or is_area(area):
            return area
        text = f"{subset.place(index)}: the area {str(area)[:40]!r} is not a number of px from 0 to 1e10"
        self._add("invalid area", "warning", text, "replaced by width x height of the box", image)
        return None

    def _report_bad_box(self, subset: RawAnnotations, bad: BadBox, image: ImageEntry, box: np.ndarray) -> bool:
        """Reports an invalid box; returns whether the part of it inside the image is kept."""
        entry = subset.annotations[bad.position]
        kind, text = bad.fault.value, f"{subset.place(bad.position)}: {bad.text}"
        if known_defect(entry.id, entry.bbox):
            self._add(kind, "note", f"{text}; a known defect of COCO", "removed", image.file_name)
            return False
        keeps = False
        if bad.fault is Fault.OUTSIDE:
            remainder = float((box[2] - box[0]) * (box[3] - box[1]))
            keeps = remainder > 0 and remainder >= _MIN_REMAINDER * float(entry.bbox[2]) * float(entry.bbox[3])
        self._add(kind, "error", text, "clipped" if keeps else "removed", image.file_name)
        return keeps

    def _add(self, kind: str, severity: str, text: str, fix: str = "", image: str = "") -> None:
        self.report.add(kind, severity, text, image, fix)


def _normalise_name(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()
