"""Text lists of boxes: one line per image, `path x1,y1,x2,y2,class x1,y1,x2,y2,class ...`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from msdet.config.sections.data import MAX_CLASSES
from msdet.data.annotations import BoxEntry, ImageEntry, ParseProblem, RawAnnotations, number_categories
from msdet.data.formats.format import AnnotationFormat, SourceOptions
from msdet.data.formats.text_lines import class_names_in, list_kind, read_lines, split_line
from msdet.errors import UserError


def load_txt(
    ann_file: Path,
    image_dir: Path,
    class_names: Sequence[str] = (),
    num_classes: int = 0,
    *,
    order: str = "xyxy",
    first_class: int = 0,
) -> RawAnnotations:
    """Parses a list of boxes.

    Args:
        ann_file: the list; empty lines are ignored.
        image_dir: folder to which the paths are relative.
        class_names: in the order of the class numbers. Empty: read from `classes.txt` next to the list or in
            `image_dir`, one name per line; without that file the numbers are the names.
        num_classes: number of classes if there are no names; 0: up to the largest number in the list.
        order: `xyxy`, or `yxyx` if a box starts with its top.
        first_class: number of the first class: 0, or 1 in lists in which 0 is the background.

    Raises:
        UserError: the file cannot be read, or contains no image or no box.
    """
    images: list[ImageEntry] = []
    annotations: list[BoxEntry] = []
    places: list[str] = []
    problems: list[ParseProblem] = []
    for number, line in enumerate(read_lines(ann_file, with_file_names=True), 1):
        path, tokens = split_line(line)
        if not path:
            if tokens:
                problems.append(ParseProblem("malformed annotation", f"{ann_file}:{number}", "the line has no path"))
            continue
        images.append(ImageEntry(path, path))
        for token in tokens:
            try:
                entry = _entry(token, order, first_class)
            except ValueError as error:
                problems.append(ParseProblem("malformed annotation", f"{ann_file}:{number}", str(error)))
                continue
            entry.id, entry.image_id = len(annotations) + 1, images[-1].id
            annotations.append(entry)
            places.append(f"{ann_file}:{number}")
    if not images and not problems:
        raise UserError(f"annotation file {ann_file} lists no images")
    if not annotations and not problems:
        raise UserError(
            f"annotation file {ann_file} lists {len(images)} images but no box (path x1,y1,x2,y2,class ...). If the "
            "labels of the images are in YOLO's text files, set --dataset yolo"
        )
    names = list(class_names) or class_names_in([ann_file.parent, image_dir])
    largest = max((entry.category_id for entry in annotations), default=-1)
    if not names:
        names = [str(label + first_class) for label in range(num_classes or largest + 1)]
    _number_classes(annotations, places, problems, names, first_class)
    return RawAnnotations(
        ann_file, image_dir, images, annotations, number_categories(names), "txt", b"", places, problems
    )


def _entry(token: str, order: str, first_class: int) -> BoxEntry:
    """Box and 0-based class number of `x1,y1,x2,y2,class`.

    Raises:
        ValueError: it is malformed.
    """
    parts = token.split(",")
    if len(parts) != 5:
        raise ValueError(f"the box {token!r} has {len(parts)} values, expected five: x1,y1,x2,y2,class")
    try:
        numbers = [float(part) for part in parts[:4]]
    except ValueError:
        raise ValueError(f"the box {token!r} has a value that is not a number") from None
    left, top, right, bottom = numbers if order == "xyxy" else (numbers[1], numbers[0], numbers[3], numbers[2])
    try:
        label = int(parts[4])
        if abs(label) > MAX_CLASSES:
            raise ValueError
    except ValueError:
        raise ValueError(
            f"the class of the box {token!r} is {parts[4]!r}, not an integer up to {MAX_CLASSES}"
        ) from None
    names = "left, top, right, bottom, class" if order == "xyxy" else "top, left, bottom, right, class"
    return BoxEntry(
        category_id=label - first_class, bbox=[left, top, right - left, bottom - top], text=f"{token} ({names})"
    )


def _number_classes(
    annotations: list[BoxEntry],
    places: list[str],
    problems: list[ParseProblem],
    names: Sequence[str],
    first_class: int,
) -> None:
    """Replaces class numbers by category ids; boxes with unknown classes become problems and are removed."""
    ids = [category.id for category in number_categories(names)]
    last = len(ids) - 1
    good = [position for position, entry in enumerate(annotations) if 0 <= entry.category_id <= last]
    if len(good) < len(annotations):
        hint = "; if class numbers start at 1, set --txt_first_class=1" if not first_class else ""
        for position in sorted(set(range(len(annotations))) - set(good)):
            entry = annotations[position]
            what = (
                f"the class of the box {entry.text} is not one of the {len(ids)} classes, numbered {first_class} to "
                f"{last + first_class}{hint}"
            )
            problems.append(ParseProblem("unknown class", places[position], what))
        annotations[:] = [annotations[position] for position in good]
        places[:] = [places[position] for position in good]
    for entry in annotations:
        entry.category_id = ids[entry.category_id]


class TxtFormat(AnnotationFormat):
    """See `AnnotationFormat`. Not auto-detected in a folder: lists of boxes look like other lists."""

    name: ClassVar[str] = "txt"
    old_names: ClassVar[tuple[str, ...]] = ("other",)
    folder_description: ClassVar[str] = "a list of boxes is given with --{split}_ann_file"

    def matches_file(self, path: Path) -> bool:
        return path.suffix.lower() == ".txt" and list_kind(path) == "boxes"

    def load(self, options: SourceOptions, split: str) -> RawAnnotations:
        ann_file = options.root / options.ann_file if options.ann_file else _list_of_boxes(options, split)
        return load_txt(
            ann_file,
            options.root / options.image_dir,
            options.class_names,
            options.num_classes,
            order=options.txt_order,
            first_class=options.txt_first_class,
        )


def _list_of_boxes(options: SourceOptions, split: str) -> Path:
    candidates = [options.root / f"{split}.txt", options.root / "annotations" / f"{split}.txt"]
    found = [path for path in candidates if options.data_dir and path.is_file()]
    if not found:
        raise UserError(
            f"{split}_ann_file is empty, and data_dir {options.data_dir!r} contains neither {split}.txt nor "
            f"annotations/{split}.txt: give the list of boxes with --{split}_ann_file"
        )
    return found[0]
