"""Reads YOLO text annotations: one file per image with one line per box."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from msdet.config.sections.data import MAX_CLASSES
from msdet.data.annotations import BoxEntry, ImageEntry, ParseProblem, RawAnnotations, number_categories
from msdet.data.formats.file_names import FileNameResolver
from msdet.data.formats.text_lines import class_names_in, read_lines
from msdet.data.images.decode import read_image_size
from msdet.data.images.file_names import is_ignored_name, walk_images
from msdet.errors import UserError
from msdet.text import first_few

logger = logging.getLogger(__name__)

# Bytes of a path and of a file name, limits of common file systems.
_MAX_PATH, _MAX_NAME = 4000, 255
# Text files next to labels and images that are not label files.
_NO_LABELS = ("classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt", "notes.txt", "README.txt",
              "README.dataset.txt", "README.roboflow.txt", "labels.txt", "predefined_classes.txt")  # fmt: skip


def load_yolo(
    source: Path, root: Path, places: Sequence[Path], class_names: Sequence[str] = (), key_points: int = 0
) -> RawAnnotations:
    """Parses the label files of a split.

    An image with a missing or empty label file has no boxes. A line is `class cx cy w h`, relative to the width and
    height of the image. A line with more numbers is a polygon, which is read as its bounding box, unless `key_points`
    is set.

    Args:
        source: the data.yaml or the folder, for messages.
        root: folder to which file names are relative; replaced by a common parent if a list has images outside of it.
        places: image folders (read recursively, links followed), or lists of images.
        class_names: in the order of the class numbers; empty: read from one of `CLASS_FILES` in `root`, next to
            `images/` and `labels/` or among the labels; without such a file the numbers are the names.
        key_points: number of key point values after each box.

    Raises:
        UserError: a folder or a list cannot be read, there are no images, or none of them has a label file.
    """
    resolver = FileNameResolver()
    images = [image for place in places for image in _images(place, source, root, resolver)]
    if not images:
        raise UserError(f"{source}: no images in {', '.join(map(str, places))}")
    if not any(image.is_file() for image in images):
        raise UserError(f"{source}: none of {len(images)} images exists, e.g. {images[0]}")
    root, images = _common_root(root, images)
    reader = _Reader(source, root, key_points, resolver)
    for image in images:
        reader.read(image)
    if not reader.labelled:
        raise UserError(
            f"{source}: none of {len(images)} images has a label file, e.g. {label_file(images[0])} for {images[0]} is "
            "missing"
        )
    if all(place.is_dir() for place in places):
        _warn_of_strays(source, reader.label_files)
    reader.warn_of_key_points()
    names = list(class_names) or class_names_in(_name_folders(source, root, images))
    if not names:
        numbers = [entry.category_id for entry in reader.annotations if entry.category_id < MAX_CLASSES]
        names = [str(number) for number in range(max(numbers, default=-1) + 1)]
        if names:
            logger.warning(
                "%s: neither data.yaml nor classes.txt has class names: using the class numbers 0 to %d as names",
                *(source, len(names) - 1),
            )
    return reader.annotations_with(names)


def _warn_of_strays(source: Path, known: set[Path]) -> None:
    """Warns of label files without an image: it is missing, or of an unsupported format."""
    folders = sorted(folder for folder in {path.parent for path in known} if folder.is_dir())
    names = [path for folder in folders for path in sorted(folder.iterdir()) if path.suffix.lower() == ".txt"]
    strays = [
        path for path in names if path not in known and path.name not in _NO_LABELS and not is_ignored_name(path.name)
    ]
    if strays:
        logger.warning("%s: %d label files have no image: %s", source, len(strays), first_few(map(str, strays), 3))


def _common_root(root: Path, images: list[Path]) -> tuple[Path, list[Path]]:
    """`root`, or its closest parent that contains all images, and the paths of the images in it."""
    if all(image.is_relative_to(root) and ".." not in image.parts for image in images):
        return root, images
    base, *absolute = [Path(os.path.normpath(path.absolute())) for path in (root, *images)]
    return Path(os.path.commonpath([base, *(image.parent for image in absolute)])), absolute


def _name_folders(source: Path, root: Path, images: Sequence[Path]) -> Iterator[Path]:
    """Folders that may contain the class names, the most likely first."""
    base = source if source.is_dir() else source.parent
    yield base
    yield root
    for folder in dict.fromkeys(label_file(image).parent for image in images):
        yield folder
        # labels/train/classes.txt, labels/classes.txt, and next to labels/.
        yield from (parent for parent in list(folder.parents)[:2] if parent.is_relative_to(base))
    yield root.parent


class _Reader:
    """Collects images and boxes from label files; `category_id` of a box is its class number at first."""

    def __init__(self, source: Path, root: Path, key_points: int, resolver: FileNameResolver) -> None:
        self.source, self.root, self.key_points, self.resolver = source, root, key_points, resolver
        self.images: list[ImageEntry] = []
        self.annotations: list[BoxEntry] = []
        self.places: list[str] = []
        self.problems: list[ParseProblem] = []
        self.labelled = 0
        self.label_files: set[Path] = set()
        # Lengths of the polygon lines; None as soon as one cannot be a box with key points.
        self.polygon_lengths: set[int] | None = set()
        self.first_polygon = ""

    def read(self, path: Path) -> None:
        """Adds an image and the boxes of its label file."""
        name = path.relative_to(self.root).as_posix()
        labels = self.resolver.resolve(label_file(path))
        self.label_files.add(labels)
        entry = ImageEntry(name, name)
        self.images.append(entry)
        if not labels.is_file():
            return
        self.labelled += 1
        rows = [(number, line) for number, line in enumerate(read_lines(labels), 1) if line.strip()]
        if not rows:
            return
        try:
            entry.width, entry.height = read_image_size(path, labels)
        except UserError as error:
            # Missing images are reported together later.
            if path.is_file():
                self.problems.append(ParseProblem("corrupt image", "", str(error)))
            entry.width = entry.height = 1
        for number, line in rows:
            self._read_line(entry, line, f"{labels}:{number}")

    def _read_line(self, image: ImageEntry, line: str, place: str) -> None:
        try:
            label, box = parse_line(line, self.key_points)
        except ValueError as error:
            self.problems.append(ParseProblem("malformed annotation", place, str(error)))
            return
        self._note_length(line, place)
        cx, cy, width, height = box
        w, h = image.width, image.height
        bbox = [(cx - width / 2) * w, (cy - height / 2) * h, width * w, height * h]
        text = f"{line.strip()[:80]} (class, centre, size relative to {w}x{h})"
        number = len(self.annotations) + 1
        self.annotations.append(BoxEntry(number, image.id, label, bbox, text=text))
        self.places.append(place)

    def _note_length(self, line: str, place: str) -> None:
        numbers = [float(word) for word in line.split()[1:]]
        if len(numbers) == 4 or self.key_points or self.polygon_lengths is None:
            return
        self.first_polygon = self.first_polygon or place
        self.polygon_lengths.add(len(numbers))
        # All objects of a dataset have the same number of key points; polygons differ in length.
        if len(self.polygon_lengths) > 1 or not _may_be_key_points(numbers):
            self.polygon_lengths = None

    def warn_of_key_points(self) -> None:
        """Warns if all lines that were read as polygons could be boxes with key points."""
        if self.polygon_lengths:
            logger.warning(
                "%s: all lines of %d numbers, such as %s, are read as polygons, but could be boxes with key points: if "
                "they are, add kpt_shape: [points, 2 or 3] to data.yaml",
                *(self.source, 1 + next(iter(self.polygon_lengths)), self.first_polygon),
            )

    def annotations_with(self, names: list[str]) -> RawAnnotations:
        """The collected annotations with these classes; a class number without a name is a problem."""
        categories = number_categories(names)
        kept = []
        for position, entry in enumerate(self.annotations):
            if entry.category_id < len(categories):
                entry.category_id = categories[entry.category_id].id
                kept.append(position)
                continue
            what = f"the class {entry.category_id} is not one of the {len(names)} classes, numbered from 0"
            self.problems.append(ParseProblem("unknown class", self.places[position], what))
        annotations = [self.annotations[position] for position in kept]
        places = [self.places[position] for position in kept]
        return RawAnnotations(
            self.source, self.root, self.images, annotations, categories, "yolo", b"", places, self.problems
        )


def parse_line(line: str, key_points: int = 0) -> tuple[int, tuple[float, float, float, float]]:
    """Class number, and (cx, cy, w, h) relative to the image, of a label line.

    Args:
        line: `class cx cy w h`, or a class and the points of a polygon.
        key_points: number of key point values that may follow the box; 0: a longer line is a polygon.

    Raises:
        ValueError: the line is malformed, or its numbers are in pixels.
    """
    words = line.split()
    try:
        label = int(words[0]) if words[0].lstrip("-").isdecimal() else int(float(words[0]))
        if float(words[0]) != label or not 0 <= label < 2**31:
            raise ValueError
    except (ValueError, OverflowError):
        raise ValueError(f"{words[0][:80]!r} is not a class number; expected class cx cy w h") from None
    try:
        numbers = [float(word) for word in words[1:]]
    except ValueError:
        raise ValueError(f"{line.strip()[:80]!r} has a value that is not a number; expected class cx cy w h") from None
    if key_points and len(numbers) not in (4, 4 + key_points):
        raise ValueError(
            f"the line has {len(words)} values, expected five (class cx cy w h) and {key_points} more from kpt_shape"
        )
    if not key_points and len(numbers) != 4 and (len(numbers) < 6 or len(numbers) % 2):
        hint = "; key points are read where data.yaml has kpt_shape" if len(numbers) > 6 else ""
        raise ValueError(f"the line has {len(words)} values, expected five: class cx cy w h{hint}")
    if key_points:
        numbers = numbers[:4]
    if any(math.isfinite(number) and abs(number) > 2 for number in numbers):
        raise ValueError(f"{line.strip()[:80]!r} is in pixels; expected values relative to the image size (0 to 1)")
    if len(numbers) == 4:
        centre_x, centre_y, width, height = numbers
        return label, (centre_x, centre_y, width, height)
    xs, ys = numbers[0::2], numbers[1::2]
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    return label, ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)


def _may_be_key_points(numbers: Sequence[float]) -> bool:
    """True if a line's numbers could be a box and points inside it, as (x, y) or (x, y, visibility)."""
    (cx, cy, width, height), rest = numbers[:4], numbers[4:]
    if width <= 0 or height <= 0 or max(abs(cx - 0.5) + width / 2, abs(cy - 0.5) + height / 2) > 0.501:
        return False

    def all_inside(xs: Sequence[float], ys: Sequence[float]) -> bool:
        points = [(x, y) for x, y in zip(xs, ys, strict=True) if (x, y) != (0, 0)]
        return all(abs(x - cx) <= width / 2 + 1e-3 and abs(y - cy) <= height / 2 + 1e-3 for x, y in points)

    triples = len(rest) % 3 == 0 and set(rest[2::3]) <= {0, 1, 2} and all_inside(rest[0::3], rest[1::3])
    return triples or all_inside(rest[0::2], rest[1::2])


def label_file(image: Path) -> Path:
    """The label file of an image: the last folder `images` in its path is replaced by `labels`; without such a folder
    it is next to the image."""
    parts = list(image.parts)
    for position in range(len(parts) - 2, -1, -1):
        if parts[position].lower() == "images":
            # Images/ goes with Labels/, and IMAGES/ with LABELS/.
            own = parts[position]
            parts[position] = "labels" if own.islower() else "LABELS" if own.isupper() else "Labels"
            break
    return Path(*parts).with_suffix(".txt")


def _is_too_long(name: str) -> bool:
    data = os.fsencode(name)
    return len(data) > _MAX_PATH or max(map(len, data.split(b"/"))) > _MAX_NAME


def _images(place: Path, source: Path, root: Path, resolver: FileNameResolver) -> Iterator[Path]:
    """Images of a folder and its subfolders, sorted, or of a list."""
    if place.is_dir():
        yield from walk_images(place)
    elif place.suffix == ".txt" and place.is_file():
        # Paths in lists are relative to the list, to the dataset, or to a folder `data` (darknet).
        bases = dict.fromkeys((place.parent, root, source if source.is_dir() else source.parent))
        for number, line in enumerate(read_lines(place, with_file_names=True), 1):
            name = line.strip().replace("\\", "/")
            if name and name.rpartition("/")[2] in ("", ".", "..") or _is_too_long(name) or "\0" in name:
                raise UserError(f"{place}:{number}: {name[:80]!r} is not the path of an image")
            if name:
                inner = name.partition("/")[2] if name.startswith("data/") else ""
                tried = [Path(os.path.normpath(base / end)) for end in (name, inner) if end for base in bases]
                yield next((found for path in tried if (found := resolver.resolve(path)).is_file()), tried[0])
    else:
        raise UserError(f"{source}: {place} is neither an image folder nor a list of images")
