"""All that is wrong with annotations, where reading stops at the first few; and a cleaned copy of them."""

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
from msdet.data.validation.image_scan import ImageFacts

SHARES = "boxes as shares of the image"
# A box that sticks out is cut if at least this share of it remains.
_LEAST_REMAINDER = 0.5


def inspect(
    content: RawAnnotations, class_names: Sequence[str], facts: Mapping[str, ImageFacts], report: SplitReport
) -> RawAnnotations:
    """Notes every problem in `report` and returns a copy of the annotations without them.

    Args:
        content: as parsed; it stays as it is.
        class_names: of the configuration; empty: all classes of the annotations.
        facts: of each image file, by its name; an image without facts is taken as it is.
        report: gets the findings.
    """
    return _Inspector(content, class_names, facts, report).run()


class _Inspector:
    def __init__(
        self, content: RawAnnotations, class_names: Sequence[str], facts: Mapping[str, ImageFacts], report: SplitReport
    ) -> None:
        self.content, self.names, self.facts, self.report = content, list(class_names), facts, report

    def run(self) -> RawAnnotations:
        for problem in self.content.problems:
            self.report.add(problem.kind, "error", str(problem), fix="left out")
        categories, renamed = self._categories()
        self._owner = self._owners()
        images = self._images()
        kept, rows = self._annotations(images, categories, renamed)
        sizes = np.array([(image.width or 0, image.height or 0) for image in images], np.int64).reshape(-1, 2)
        entries = self._boxes(images, kept, rows, sizes)
        # The ids are new and the faults gone: there is no line left to be named.
        return replace(
            self.content,
            images=images,
            annotations=entries,
            categories=categories,
            places=None,
            json_bytes=b"",
            problems=[],
        )

    def _categories(self) -> tuple[list[Category], dict[int, int]]:
        """Sound categories under the configuration's names, and the id that each old id becomes."""
        sound: list[Category] = []
        for position, category in enumerate(self.content.categories):
            if type(category.id) is not int or not isinstance(category.name, str) or not category.name.strip():
                text = f"category {position} needs an integer 'id' and a text 'name'"
                self._add("broken category", "error", text, "left out with its boxes")
            elif any(other.id == category.id for other in sound):
                text = f"the category id {category.id} occurs twice ({category.name!r})"
                self._add("duplicated category", "error", text, "the first one counts")
            elif any(other.name == category.name for other in sound):
                first = next(other for other in sound if other.name == category.name)
                text = f"the category name {category.name!r} occurs twice, as ids {first.id} and {category.id}"
                self._add("duplicated category", "error", text, f"boxes of {category.id} become {first.id}")
                sound.append(Category(category.id, category.name))
            else:
                sound.append(category)
        return self._known_categories(sound)

    def _known_categories(self, sound: list[Category]) -> tuple[list[Category], dict[int, int]]:
        boxes = Counter(entry.category_id for entry in self.content.annotations if type(entry.category_id) is int)
        result: list[Category] = []
        becomes: dict[int, int] = {}
        by_name: dict[str, int] = {}
        for category in sorted(sound, key=lambda category: category.name not in self.names):
            name = category.name
            if self.names and name not in self.names:
                name = self._name_of_config(category, boxes[category.id])
            if name is None:
                continue
            if name not in by_name:
                by_name[name] = category.id
                result.append(Category(category.id, name))
            becomes[category.id] = by_name[name]
        return sorted(result, key=lambda category: category.id), becomes

    def _name_of_config(self, category: Category, boxes: int) -> str | None:
        """The class that a category means, if only its spelling differs; notes it either way."""
        if not boxes:
            return None
        same = [name for name in self.names if _plain(name) == _plain(category.name)]
        near = nearest_name(category.name, self.names)
        hint = f"did you mean {near!r}?" if near else f"it names {len(self.names)} classes"
        text = f"the category {category.name!r} ({boxes} boxes) is not among the classes of the configuration ({hint})"
        means = same[0] if len(same) == 1 else None
        self._add("unknown class", "error", text, f"becomes {means!r}" if means else "its boxes are left out")
        return means

    def _owners(self) -> dict[Any, Any]:
        """For each id of a file that stands under several: the first of them, which gets all boxes."""
        owner: dict[Any, Any] = {}
        for name, ids in shared_files(self.content):
            usable = [number for number in dict.fromkeys(ids) if type(number) in (int, str)]
            if len(usable) > 1:
                text = (
                    f"{name} stands under the image ids {', '.join(map(repr, usable))}: each takes the objects of the "
                )
                text += "others for background"
                self._add("file under several ids", "error", text, f"its boxes go to {usable[0]!r}", name)
                owner |= dict.fromkeys(usable[1:], usable[0])
        return owner

    def _images(self) -> list[ImageEntry]:
        """Sound entries of images that can be read, with their sizes."""
        kept: list[ImageEntry] = []
        seen: set[Any] = set()
        for position, image in enumerate(self.content.images):
            if type(image.id) in (int, str) and image.id in self._owner:
                continue
            problem = self._image_problem(position, image, seen)
            if problem:
                self._add(*problem, fix="left out with its boxes", image=str(image.file_name))
                continue
            seen.add(image.id)
            kept.append(self._sized(image))
        return kept

    def _image_problem(self, position: int, image: ImageEntry, seen: set[Any]) -> tuple[str, str, str] | None:
        """Kind, severity and text of what keeps an image from being used."""
        if type(image.id) not in (int, str):
            return "broken image entry", "error", f"image {position} has no usable id ({image.id!r})"
        if image.id in seen:
            return "duplicated image id", "error", f"the image id {image.id!r} occurs twice ({image.file_name})"
        if not isinstance(image.file_name, str) or not image.file_name:
            return "broken image entry", "error", f"image {image.id!r} has no file_name"
        if leaves_folder(image.file_name):
            text = f"image {image.id!r}: file_name {image.file_name!r} leads out of the image folder"
            return "file name leaves the folder", "error", text
        fact = self.facts.get(image.file_name)
        if fact is not None and fact.error:
            return "missing image" if fact.missing else "broken image", "error", fact.error
        if any(side and not is_valid_size(side) for side in (image.width, image.height)):
            text = f"image {image.id!r} has width {image.width!r} and height {image.height!r}"
            return "broken image entry", "error", text
        if fact is not None and image.width and image.height and not fact.fits(image.width, image.height):
            path, told = self.content.image_dir / image.file_name, f"{image.width:g}x{image.height:g}"
            text = f"image {path} has {fact.width}x{fact.height} pixels, its annotation says {told}"
            return "size differs from the annotation", "error", text
        return None

    def _sized(self, image: ImageEntry) -> ImageEntry:
        fact = self.facts.get(image.file_name)
        width, height = int(image.width or 0), int(image.height or 0)
        if fact is not None and not (width and height):
            width, height = fact.width, fact.height
        if fact is not None and fact.header is not None:
            path = self.content.image_dir / image.file_name
            doubtful = exif_note(path, fact.header, (int(image.width or 0), int(image.height or 0)))
            for note in (*fact.notes, *([doubtful] if doubtful else ())):
                self._add(note.kind, "warning", note.text, image=image.file_name)
            if fact.header.orientation != 1 and not doubtful:
                text = f"image {path} has EXIF orientation {fact.header.orientation}: it is turned upright when read"
                self._add(EXIF, "note", text, image=image.file_name)
        return ImageEntry(image.id, image.file_name, width, height)

    def _annotations(
        self, images: list[ImageEntry], categories: list[Category], becomes: Mapping[int, int]
    ) -> tuple[list[int], list[int]]:
        """Positions of the annotations whose ids are sound, and the rows of their images."""
        row_of = {image.id: row for row, image in enumerate(images)}
        known = {image.id for image in self.content.images if type(image.id) in (int, str)}
        every = dict.fromkeys(known, 0)
        name_of = {category.id: category.name for category in self.content.categories if type(category.id) is int}
        kept, rows, seen = [], [], set()
        for position, entry in enumerate(self.content.annotations):
            found = annotation_problem(entry, every, name_of, [], dict.fromkeys(name_of, 0))
            if found:
                self._add(found.fault.value, "error", f"{self.content.place(position)}: {found.text}", "left out")
            elif entry.id in seen:
                text = f"{self.content.place(position)}: the annotation id {entry.id!r} occurs twice"
                self._add("duplicated annotation id", "error", text, "gets another id")
            image_id = entry.image_id if found else self._owner.get(entry.image_id, entry.image_id)
            if found or image_id not in row_of or entry.category_id not in becomes:
                continue
            seen.add(entry.id)
            kept.append(position)
            rows.append(row_of[image_id])
        self._becomes = becomes
        return kept, rows

    def _boxes(self, images: list[ImageEntry], kept: list[int], rows: list[int], sizes: np.ndarray) -> list[BoxEntry]:
        """Sound boxes, cut to their images; those of too small a remainder and those that are there twice are left
        out."""
        some = replace(
            self.content,
            images=images,
            annotations=[self.content.annotations[position] for position in kept],
            places=None if self.content.places is None else [self.content.places[position] for position in kept],
        )
        check = BoxCheck(some, np.array(rows, np.int64), sizes)
        measured = check.measure()
        boxes, xywh, good, clipped, bad = measured
        if shares := check.shares(measured):
            self._add(SHARES, "error", f"{self.content.source}: {shares}")
        cut = set()
        for box in bad:
            good[box.position] = self._judge(some, box, images[rows[box.position]], boxes[box.position])
            cut.add(box.position)
        if clipped.any():
            text = f"{int(clipped.sum())} boxes stick out of their images by at most a pixel, as rounding does"
            self._add("box cut by less than a pixel", "note", text, "cut")
        seen: set[tuple] = set()
        entries: list[BoxEntry] = []
        for index in np.flatnonzero(good).tolist():
            entry, image = some.annotations[index], images[rows[index]]
            category = self._becomes[entry.category_id]
            mark = (rows[index], category, *boxes[index].tolist())
            if mark in seen:
                text = f"{some.place(index)}: image {image.id!r} ({image.file_name}): the box is there twice"
                self._add("duplicated box", "warning", text, "left out", image.file_name)
                continue
            seen.add(mark)
            bbox = xywh[index].tolist()
            area = None if index in cut else self._area(some, index, image.file_name)
            entries.append(
                BoxEntry(len(entries) + 1, image.id, category, bbox, area, entry.iscrowd, entry.difficult, entry.text)
            )
        return entries

    def _area(self, some: RawAnnotations, index: int, image: str) -> Any:
        """The area of an annotation as it is, or None for one that cannot be used, which is noted."""
        area = some.annotations[index].area
        if area is None or is_area(area):
            return area
        text = f"{some.place(index)}: the area {str(area)[:40]!r} is no number of px from 0 to 1e10"
        self._add("unusable area", "warning", text, "width x height of the box counts", image)
        return None

    def _judge(self, some: RawAnnotations, bad: BadBox, image: ImageEntry, box: np.ndarray) -> bool:
        """Notes a bad box; whether the part of it inside the image is kept."""
        entry = some.annotations[bad.position]
        kind, text = bad.fault.value, f"{some.place(bad.position)}: {bad.text}"
        if known_defect(entry.id, entry.bbox):
            self._add(kind, "note", f"{text}; a known defect of COCO", "left out", image.file_name)
            return False
        keeps = False
        if bad.fault is Fault.OUTSIDE:
            remainder = float((box[2] - box[0]) * (box[3] - box[1]))
            keeps = remainder > 0 and remainder >= _LEAST_REMAINDER * float(entry.bbox[2]) * float(entry.bbox[3])
        self._add(kind, "error", text, "cut" if keeps else "left out", image.file_name)
        return keeps

    def _add(self, kind: str, severity: str, text: str, fix: str = "", image: str = "") -> None:
        self.report.add(kind, severity, text, image, fix)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()
