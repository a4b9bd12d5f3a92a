"""Reads PASCAL VOC annotations: one XML file per image, and lists of the images of a split."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from msdet.data.annotations import BoxEntry, ImageEntry, ParseProblem, RawAnnotations, number_categories
from msdet.data.class_lists import VOC_NAMES
from msdet.data.formats.text_lines import read_lines
from msdet.data.formats.voc.xml_tree import Node, parse_xml
from msdet.data.images.file_names import IMAGE_SUFFIXES, find_image
from msdet.errors import UserError

logger = logging.getLogger(__name__)

# <database> in the files of PASCAL VOC itself; labelling programs write other text.
_VOC_DATABASE = re.compile(r"The VOC20\d\d Database")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class VocPart:
    """A part of a split: the images of one annotation folder.

    Attributes:
        list_file: image names without suffix, one per line; None: all XML files of the folder.
        xml_dir: folder of the XML files.
        image_dir: folder of the images.
    """

    list_file: Path | None
    xml_dir: Path
    image_dir: Path


def load_voc(
    source: Path,
    root: Path,
    parts: Sequence[VocPart],
    class_names: Sequence[str] = (),
    first_pixel: int = 1,
    num_classes: int = 0,
) -> RawAnnotations:
    """Parses the XML files of a split.

    Args:
        source: names the annotations in messages.
        root: folder to which file names are relative; it contains the image folders of all parts.
        parts: the parts of the split.
        class_names: the classes in label order; empty: the occurring classes in alphabetical order, or VOC's twenty
            classes if no other class occurs and the files are VOC's own or `num_classes` is 20.
        first_pixel: index of the leftmost and topmost pixel: 1 in VOC's own files, 0 in those of some programs. A box
            extends from the outer edge of its first to the outer edge of its last pixel.
        num_classes: number of classes; 0 if unknown.

    Raises:
        UserError: a list or a folder cannot be read, or there are no images.
    """
    reader = _Reader(root, first_pixel)
    for part in parts:
        reader.read_part(part)
    if not reader.images and not reader.problems:
        raise UserError(f"{source} lists no images")
    found = {entry.category_id for entry in reader.annotations}
    names = list(class_names)
    if not names and found <= set(VOC_NAMES) and (num_classes == len(VOC_NAMES) if num_classes else reader.is_voc):
        names = list(VOC_NAMES)
        if len(found) < len(names):
            logger.info("%s: %d of VOC's 20 classes occur; using all 20", source, len(found))
    names += sorted(found - set(names))
    categories = number_categories(names)
    id_of = {category.name: category.id for category in categories}
    for entry in reader.annotations:
        entry.category_id = id_of[entry.category_id]
    return RawAnnotations(
        source, root, reader.images, reader.annotations, categories, "voc", b"", reader.places, reader.problems
    )


class _Reader:
    """Collects images and objects from XML files; `category_id` of a box is its class name at first."""

    def __init__(self, root: Path, first_pixel: int) -> None:
        self.root = root
        self.first_pixel = first_pixel
        self.images: list[ImageEntry] = []
        self.annotations: list[BoxEntry] = []
        self.places: list[str] = []
        self.problems: list[ParseProblem] = []
        self.is_voc = False

    def read_part(self, part: VocPart) -> None:
        annotated = xml_names(part.xml_dir)
        names = annotated if part.list_file is None else listed_names(part.list_file, annotated)
        folder = part.image_dir.relative_to(self.root).as_posix()
        prefix = "" if folder == "." else f"{folder}/"
        find_by_stem = find_image(part.image_dir)
        for name in names:
            path = part.xml_dir / f"{name}.xml"
            root = self._parse(path, part)
            if root is None:
                continue
            source = root.find("source")
            self.is_voc |= source is not None and _VOC_DATABASE.fullmatch(source.value("database")) is not None
            written = root.value("filename")
            # <filename> is often outdated, so the stem of the XML file takes precedence.
            default = f"{name}{Path(written).suffix if Path(written).suffix.lower() in IMAGE_SUFFIXES else '.jpg'}"
            file_name = find_by_stem(name) or (written if find_by_stem(Path(written).stem) == written else default)
            self.images.append(ImageEntry(name, prefix + file_name, *self._size(root, path)))
            for node in root.find_all("object"):
                self._read_object(node, name, path)

    def _parse(self, path: Path, part: VocPart) -> Node | None:
        try:
            root = parse_xml(path.read_bytes())
        except FileNotFoundError:
            listed = f", listed in {part.list_file}," if part.list_file else ""
            self.problems.append(ParseProblem("missing annotation", "", f"annotation file {path}{listed} is missing"))
            return None
        except OSError as error:
            self.problems.append(ParseProblem("unreadable annotation", str(path), f"cannot be read ({error.strerror})"))
            return None
        except ValueError as error:
            self.problems.append(ParseProblem("unreadable annotation", str(path), str(error)))
            return None
        if root.tag != "annotation":
            what = f"its root is <{root.tag}>, not <annotation>"
            self.problems.append(ParseProblem("unreadable annotation", str(path), what))
            return None
        return root

    def _size(self, root: Node, path: Path) -> tuple[float | None, float | None]:
        size = root.find("size")
        if size is None:
            return None, None
        values = [self._number(size, side, path) for side in ("width", "height")]
        return values[0], values[1]

    def _read_object(self, node: Node, image_id: str, path: Path) -> None:
        name, box = node.value("name"), node.find("bndbox")
        place = f"{path}:{node.line}"
        duplicate = self._duplicate(node, ("name", "bndbox", "difficult")) or (box and self._duplicate(box, _CORNERS))
        if duplicate:
            what = f"an object has a second <{duplicate.tag}> at line {duplicate.line}: write one object per box"
            self.problems.append(ParseProblem("malformed annotation", place, what))
            return
        if not name or box is None:
            what = f"an object has no <{'bndbox' if name else 'name'}>"
            self.problems.append(ParseProblem("malformed annotation", place, what))
            return
        corners = [number for corner in _CORNERS if (number := self._number(box, corner, path)) is not None]
        if len(corners) < len(_CORNERS):
            return
        left, top, right, bottom = corners
        written = ", ".join(f"{corner} {box.value(corner)}" for corner in _CORNERS)
        self.annotations.append(
            BoxEntry(
                id=len(self.annotations) + 1,
                image_id=image_id,
                category_id=name,
                bbox=[left - self.first_pixel, top - self.first_pixel, right - left + self.first_pixel,
                      bottom - top + self.first_pixel],
                difficult=int(node.value("difficult") == "1"),
                text=written,
            )
        )  # fmt: skip
        self.places.append(place)

    @staticmethod
    def _duplicate(node: Node, tags: Sequence[str]) -> Node | None:
        """The second child with one of the tags, each of which may occur only once."""
        return next((second for tag in tags for second in islice(node.find_all(tag), 1, 2)), None)

    def _number(self, node: Node, tag: str, path: Path) -> float | None:
        text = node.value(tag)
        try:
            value = float(text)
        except ValueError:
            what = f"<{tag}> is {text!r}, not a number" if text else f"<{node.tag}> has no <{tag}>"
            self.problems.append(ParseProblem("malformed annotation", f"{path}:{node.line}", what))
            return None
        return int(value) if math.isfinite(value) and value == int(value) else value


def listed_names(list_file: Path, annotated: Collection[str] = ()) -> list[str]:
    """Image names in a VOC list, one per line, which may contain spaces and the suffix of the image.

    Lists of one class have a second column: -1, 0 or 1. Images without the class (-1) are skipped.

    Args:
        list_file: the list.
        annotated: names with annotations; a line that equals one of them is not split.

    Raises:
        UserError: the file cannot be read, or a name points outside the folder.
    """
    known = set(annotated)
    names = []
    for number, line in enumerate(read_lines(list_file, with_file_names=True), 1):
        name = line.strip()
        if name and name not in known:
            head, *mark = name.rsplit(None, 1)
            if mark and mark[0] in ("-1", "0", "1"):
                if mark[0] == "-1":
                    continue
                name = head
            stem, suffix = Path(name).stem, Path(name).suffix.lower()
            if name not in known and stem in known and suffix in (*IMAGE_SUFFIXES, ".xml"):
                name = stem
        if not name:
            continue
        if "/" in name or "\\" in name or name in (".", ".."):
            raise UserError(f"{list_file}:{number}: {name!r} is not an image name; expected a name without folder")
        names.append(name)
    return names


def xml_names(folder: Path) -> list[str]:
    """Stems of the XML files of a folder, sorted.

    Raises:
        UserError: the folder cannot be read.
    """
    try:
        return sorted(path.stem for path in folder.iterdir() if path.suffix.lower() == ".xml")
    except OSError as error:
        raise UserError(f"the annotation folder {folder} cannot be read ({error.strerror})") from error
