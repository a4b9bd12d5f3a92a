"""YOLO text annotations: a file an image with a line a box, and a data.yaml that names folders and classes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from src.data.content import BoxEntry, Content, ImageEntry, Problem, numbered
from src.data.decode import read_image_size
from src.data.image_files import is_image_name
from src.data.txt_lines import names_beside, read_lines
from src.errors import UserError

SPLIT_NAMES = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


@dataclass(frozen=True)
class YoloFile:
    """What a data.yaml says.

    Attributes:
        path: of the file.
        names: of the classes, in label order; empty if it names none.
        splits: "train", "val", "test" -> folders of images, or lists of their names, as far as they are there.
    """

    path: Path
    names: tuple[str, ...]
    splits: Mapping[str, tuple[Path, ...]]


def find_yaml(root: Path) -> Path | None:
    """The data.yaml of a folder: that name, or the only YAML file of it that names a split."""
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        if (root / name).is_file():
            return root / name
    found = [path for path in sorted(root.glob("*.y*ml")) if _names_split(path)]
    return found[0] if len(found) == 1 else None


def _names_split(path: Path) -> bool:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return isinstance(content, dict) and "names" in content and ("train" in content or "val" in content)


def read_yaml(path: Path) -> YoloFile:
    """Reads a data.yaml.

    A folder is looked for from the file's `path` (as it is, or below the file's folder), and from the file's folder;
    exports that write `../train/images` for `train/images` are understood.

    Raises:
        UserError: it cannot be read, or is no such file.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}:{line}: no YAML ({error.problem})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is no YAML text") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is no data.yaml: it should name train, val and names")
    names = _class_names(path, content)
    splits = {}
    for split, keys in SPLIT_NAMES.items():
        told = next((content[key] for key in keys if content.get(key)), None)
        if told is not None:
            wanted = told if isinstance(told, list) else [told]
            splits[split] = tuple(_resolve(path, content.get("path"), str(entry)) for entry in wanted)
    return YoloFile(path, names, splits)


def _class_names(path: Path, content: Mapping[str, Any]) -> tuple[str, ...]:
    names, count = content.get("names"), content.get("nc")
    if isinstance(names, dict):
        numbers = list(range(len(names)))
        if sorted(names, key=str) != sorted(numbers, key=str):
            raise UserError(f"{path}: names has the numbers {sorted(names, key=str)}, not 0 to {len(names) - 1}")
        names = [names[number] for number in numbers]
    if names is None:
        names = [str(number) for number in range(count)] if isinstance(count, int) else []
    if not isinstance(names, list) or not all(isinstance(name, str | int) for name in names):
        raise UserError(f"{path}: names is no list of class names")
    if isinstance(count, int) and count != len(names):
        raise UserError(f"{path}: nc is {count}, but names has {len(names)} classes")
    return tuple(str(name) for name in names)


def _resolve(path: Path, base: Any, told: str) -> Path:
    here = path.parent
    bases = [here / str(base), here, Path(str(base))] if base else [here]
    candidates = [Path(os.path.normpath(folder / told)) for folder in bases]
    while told.startswith("../"):
        told = told[3:]
        candidates.append(here / told)
    return next((candidate for candidate in candidates if candidate.exists()), candidates[0])


def load_yolo(source: Path, root: Path, places: Sequence[Path], class_names: Sequence[str] = ()) -> Content:
    """What the label files of a split say.

    An image without a label file, or with an empty one, is an image without boxes. A line is `class cx cy w h`, the
    numbers as shares of the image's width and height; a line of more numbers is a polygon, and its box is what
    encloses it.

    Args:
        source: the data.yaml, or the folder, for messages.
        root: folder that file names start from.
        places: folders of images (with all below), or lists of their names.
        class_names: of the label numbers; empty: from `classes.txt`, else as many numbers as occur.

    Raises:
        UserError: a folder or a list cannot be read, there are no images, or not one of them has a label file.
    """
    reader = _Reader(source, root)
    for place in places:
        for image in _images(place, source):
            reader.read(image)
    if not reader.images:
        raise UserError(f"{source}: no images in {', '.join(map(str, places))}")
    if not reader.labelled:
        example = label_file(root / reader.images[0].file_name)
        raise UserError(f"{source}: not one of {len(reader.images)} images has a label file, e.g. {example}")
    names = list(class_names) or names_beside(root / "classes.txt")
    largest = max((entry.category_id for entry in reader.annotations), default=-1)
    if not names:
        names = [str(number) for number in range(largest + 1)]
    return reader.content(names)


class _Reader:
    def __init__(self, source: Path, root: Path) -> None:
        self.source, self.root = source, root
        self.images: list[ImageEntry] = []
        self.annotations: list[BoxEntry] = []
        self.places: list[str] = []
        self.problems: list[Problem] = []
        self.labelled = 0

    def read(self, path: Path) -> None:
        """One image and its label file."""
        try:
            name = path.relative_to(self.root).as_posix()
        except ValueError:
            what = f"image {path} lies outside the data set {self.root}"
            self.problems.append(Problem("outside", str(self.source), what))
            return
        labels = label_file(path)
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
            # A missing image is told with all others that are missing.
            if path.is_file():
                self.problems.append(Problem("broken image", "", str(error)))
            entry.width = entry.height = 1
        for number, line in rows:
            self._read_line(entry, line, f"{labels}:{number}")

    def _read_line(self, image: ImageEntry, line: str, place: str) -> None:
        try:
            label, box = parse_line(line)
        except ValueError as error:
            self.problems.append(Problem("broken annotation", place, str(error)))
            return
        cx, cy, width, height = box
        w, h = image.width, image.height
        bbox = [(cx - width / 2) * w, (cy - height / 2) * h, width * w, height * h]
        text = f"{line.strip()[:80]} (class, centre, size as shares of {w}x{h})"
        number = len(self.annotations) + 1
        self.annotations.append(BoxEntry(number, image.id, label, bbox, text=text))
        self.places.append(place)

    def content(self, names: list[str]) -> Content:
        """All that was read; a label beyond the names is a problem."""
        categories = numbered(names)
        kept = []
        for position, entry in enumerate(self.annotations):
            if entry.category_id < len(categories):
                entry.category_id = categories[entry.category_id].id
                kept.append(position)
                continue
            what = f"the class {entry.category_id} is none of the {len(names)}, numbered from 0"
            self.problems.append(Problem("unknown class", self.places[position], what))
        annotations = [self.annotations[position] for position in kept]
        places = [self.places[position] for position in kept]
        return Content(self.source, self.root, self.images, annotations, categories, "yolo", b"", places, self.problems)


def parse_line(line: str) -> tuple[int, tuple[float, float, float, float]]:
    """Class number, and centre and size as shares of the image, of a label line.

    Raises:
        ValueError: the line is no such line, or its numbers look like pixels.
    """
    words = line.split()
    try:
        label = int(words[0]) if words[0].lstrip("-").isdecimal() else int(float(words[0]))
        if float(words[0]) != label or label < 0:
            raise ValueError
    except (ValueError, OverflowError):
        raise ValueError(f"{words[0]!r} is no class number; a line is: class cx cy w h") from None
    try:
        numbers = [float(word) for word in words[1:]]
    except ValueError:
        raise ValueError(f"{line.strip()[:80]!r} holds what is no number; a line is: class cx cy w h") from None
    if len(numbers) != 4 and (len(numbers) < 6 or len(numbers) % 2):
        raise ValueError(f"the line has {len(words)} values; class cx cy w h are five")
    if any(math.isfinite(number) and abs(number) > 2 for number in numbers):
        raise ValueError(f"{line.strip()[:80]!r} is in pixels; shares of the image's width and height are due (0 to 1)")
    if len(numbers) == 4:
        return label, tuple(numbers)
    xs, ys = numbers[0::2], numbers[1::2]
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    return label, ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)


def label_file(image: Path) -> Path:
    """Where the labels of an image are: the last folder `images` of its path becomes `labels`; without such a folder
    they are beside it."""
    parts = list(image.parts)
    for position in range(len(parts) - 2, -1, -1):
        if parts[position] == "images":
            parts[position] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _images(place: Path, source: Path) -> Iterator[Path]:
    """Images of a folder and all folders in it, sorted; or of a list."""
    if place.is_dir():
        for folder, inner, names in os.walk(place):
            inner.sort()
            yield from (Path(folder, name) for name in sorted(names) if is_image_name(name))
    elif place.suffix == ".txt" and place.is_file():
        for line in read_lines(place, with_file_names=True):
            if line.strip():
                yield Path(os.path.normpath(place.parent / line.strip()))
    else:
        raise UserError(f"{source}: {place} is neither a folder of images nor a list of their names")
