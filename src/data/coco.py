"""COCO annotation files: read, checked, and turned into samples.

What is wrong is never silently dropped. Broken structure, unknown ids or categories and missing images end in a
`UserError` that lists the first few; bad boxes do too, unless the caller asks to skip, and then they are counted.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from src.data.coco_check import BoxCheck, Problems, check_image_files, check_unique, nearest_name
from src.data.decode import read_image_size
from src.data.sample import DetectionDataset, ReadReport, build_samples
from src.errors import UsageError, UserError

logger = logging.getLogger(__name__)

LABEL_MAPS = ("dense", "coco_id_minus_1")
UNUSED_CLASS = "(unused)"
# Under coco_id_minus_1 each id up to the largest costs an output of the network.
_LARGEST_ID = 10_000


class _Image(msgspec.Struct, gc=False):
    id: Any = None
    file_name: Any = None
    width: Any = None
    height: Any = None


class _Annotation(msgspec.Struct, gc=False):
    id: Any = None
    image_id: Any = None
    category_id: Any = None
    bbox: Any = None
    iscrowd: Any = 0


class _Category(msgspec.Struct, gc=False):
    id: Any = None
    name: Any = None


class _CocoFile(msgspec.Struct):
    images: list[_Image] | None = None
    annotations: list[_Annotation] | None = None
    categories: list[_Category] | None = None


def read_coco(
    ann_file: str | Path,
    image_dir: str | Path,
    class_names: Sequence[str] = (),
    *,
    keep_crowd: bool = True,
    label_map: str = "dense",
    on_bad_box: str = "error",
    check_images: bool = True,
    require_annotations: bool = True,
) -> DetectionDataset:
    """Reads a COCO annotation file (instances_*.json) and checks it against itself and the image folder.

    Images without boxes, crowd regions, string ids and absent widths and heights (then read from the image files) are
    ordinary. A box that sticks out of its image by one pixel or less is cut to it and counted.

    Args:
        ann_file: the JSON file.
        image_dir: folder that the file names start from.
        class_names: the classes, in label order; empty takes the file's categories in the order of their ids. A
            category that no box uses need not be among them.
        keep_crowd: False leaves crowd regions out of the samples altogether.
        label_map: `dense` numbers the classes in their order; `coco_id_minus_1` takes category id - 1, so that
            unused ids stay as holes, named "(unused)".
        on_bad_box: what a box without area, with a value that is no finite number, or outside its image does:
            `error`, or `skip` (left out, counted, logged). Two boxes of zero height in COCO's own train files are
            known and always skipped.
        check_images: look whether every image file is there; False for scoring without images.
        require_annotations: False reads files that list images only (test-dev).

    Raises:
        UserError: what is wrong, with file, image and annotation id.
        UsageError: an argument that does not exist.
    """
    for name, value, allowed in (("label_map", label_map, LABEL_MAPS), ("on_bad_box", on_bad_box, ("error", "skip"))):
        if value not in allowed:
            raise UsageError(f"{name} {value!r} does not exist: choose {', '.join(allowed)}")
    ann_file, image_dir = Path(ann_file), Path(image_dir)
    raw = _load(ann_file)
    content = _decode(ann_file, raw, require_annotations)
    names, category_ids, label_of = _map_classes(ann_file, content, class_names, label_map)
    _check_images(ann_file, content.images, image_dir)
    if check_images:
        check_image_files(ann_file, image_dir, [image.file_name for image in content.images])
    rows, labels, crowd = _check_annotations(ann_file, raw, content, names, label_of)
    sizes = _image_sizes(ann_file, image_dir, content.images, check_images)
    check = BoxCheck(ann_file, raw, content.images, content.annotations, rows, np.array(sizes, np.int64).reshape(-1, 2))
    boxes, keep, report = check.run(on_bad_box)
    if not keep_crowd:
        keep &= ~crowd
    order = np.flatnonzero(keep)
    order = order[np.argsort(rows[order], kind="stable")]
    counts = np.bincount(rows[order], minlength=len(content.images))
    paths = [f"{image_dir}/{image.file_name}" for image in content.images]
    ids = [image.id for image in content.images]
    samples = build_samples(paths, ids, sizes, counts, boxes[order], labels[order], crowd[order])
    _fill_report(report, counts, crowd[order], len(paths))
    _log(ann_file, report, len([name for name in names if name != UNUSED_CLASS]))
    return DetectionDataset(samples, names, category_ids, ann_file, image_dir, report)


def _load(ann_file: Path) -> bytes:
    try:
        raw = ann_file.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"annotation file {ann_file} is missing") from error
    except OSError as error:
        raise UserError(f"annotation file {ann_file} cannot be read ({error.strerror})") from error
    if not raw.strip():
        raise UserError(f"annotation file {ann_file} is empty")
    return raw


def _decode(ann_file: Path, raw: bytes, require_annotations: bool) -> _CocoFile:
    # msgspec builds only the fields asked for: the masks, nine tenths of COCO's files, are skipped. The standard
    # parser gets what msgspec refuses: it accepts NaN (whose box is named below) and tells line and column.
    try:
        content = msgspec.json.decode(raw, type=_CocoFile)
    except msgspec.ValidationError as error:
        raise UserError(f"annotation file {ann_file} is no COCO annotation file: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError):
        content = _decode_slowly(ann_file, raw)
    absent = [name for name in ("images", "categories") if getattr(content, name) is None]
    if content.annotations is None and require_annotations:
        absent.append("annotations")
    if absent:
        raise UserError(
            f"annotation file {ann_file} is no COCO annotation file: the key {' and '.join(map(repr, absent))} is "
            'missing (expected {"images": [...], "annotations": [...], "categories": [...]})'
        )
    if not content.images:
        raise UserError(f"annotation file {ann_file} lists no images")
    content.annotations = content.annotations or []
    return content


def _decode_slowly(ann_file: Path, raw: bytes) -> _CocoFile:
    try:
        return msgspec.convert(json.loads(raw), _CocoFile)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise UserError(f"annotation file {ann_file} is not JSON: {error.msg} at {place}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"annotation file {ann_file} is not JSON: no text at byte {error.start}") from error
    except msgspec.ValidationError as error:
        raise UserError(f"annotation file {ann_file} is no COCO annotation file: {error}") from error
    except RecursionError as error:
        raise UserError(f"annotation file {ann_file} is no COCO annotation file: nested too deeply") from error


def _map_classes(
    ann_file: Path, content: _CocoFile, class_names: Sequence[str], label_map: str
) -> tuple[list[str], list[int], dict[int, int]]:
    """Names and category ids by label, and the label of each category id of the file that the config knows."""
    problems = Problems(ann_file)
    for position, category in enumerate(content.categories):
        if type(category.id) is not int or not isinstance(category.name, str):
            problems.add(f"category {position} needs an integer 'id' and a text 'name'")
        elif label_map == "coco_id_minus_1" and not 1 <= category.id <= _LARGEST_ID:
            problems.add(
                f"category {category.name!r} has id {category.id}: label_map coco_id_minus_1 needs ids from 1 to "
                f"{_LARGEST_ID}, dense takes any"
            )
    problems.raise_if_any()
    check_unique(ann_file, "category id", [category.id for category in content.categories])
    check_unique(ann_file, "category name", [category.name for category in content.categories])
    id_of = {category.name: category.id for category in sorted(content.categories, key=lambda category: category.id)}
    known = list(class_names) or list(id_of)
    if len(set(known)) < len(known):
        raise UsageError("class_names names a class twice")
    absent = [name for name in known if name not in id_of]
    if absent:
        logger.warning("%s has no category %s: no box will carry it", ann_file, ", ".join(map(repr, absent)))
    if label_map == "coco_id_minus_1":
        name_of = {id_of[name]: name for name in known if name in id_of}
        ids = list(range(1, max(name_of, default=0) + 1))
        return [name_of.get(number, UNUSED_CLASS) for number in ids], ids, {number: number - 1 for number in name_of}
    # A class the file does not have gets an id the file does not use, so that its detections score as nothing.
    spare = iter(range(max(id_of.values(), default=0) + 1, 2**31))
    ids = [id_of[name] if name in id_of else next(spare) for name in known]
    return known, ids, {id_of[name]: label for label, name in enumerate(known) if name in id_of}


def _check_images(ann_file: Path, images: list[_Image], image_dir: Path) -> None:
    problems = Problems(ann_file)
    for position, image in enumerate(images):
        if type(image.id) not in (int, str):
            problems.add(f"image {position} has {'no id' if image.id is None else f'the id {image.id!r}'}")
        elif not isinstance(image.file_name, str) or not image.file_name:
            problems.add(f"image {image.id!r} has no file_name")
        elif _leaves_folder(image.file_name):
            problems.add(f"image {image.id!r}: file_name {image.file_name!r} leads out of the image folder {image_dir}")
    problems.raise_if_any()
    check_unique(ann_file, "image id", [image.id for image in images])


def _leaves_folder(file_name: str) -> bool:
    if "/" not in file_name and "\\" not in file_name and "\0" not in file_name:
        return file_name in (".", "..")
    parts = file_name.replace("\\", "/").split("/")
    return parts[0] == "" or ".." in parts or "\0" in file_name or parts[0].endswith(":")


def _check_annotations(
    ann_file: Path, raw: bytes, content: _CocoFile, names: list[str], label_of: dict[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row of its image, label, and crowd flag of each annotation."""
    annotations = content.annotations
    row_of = {image.id: row for row, image in enumerate(content.images)}
    try:
        rows = [row_of.get(annotation.image_id, -1) for annotation in annotations]
        labels = [label_of.get(annotation.category_id, -1) for annotation in annotations]
    except TypeError:
        rows = labels = [-1] * len(annotations)
    sound = all(
        type(annotation.id) in (int, str) and annotation.bbox is not None and annotation.iscrowd in (0, 1)
        for annotation in annotations
    )
    if not sound or -1 in rows or -1 in labels:
        name_of = {category.id: category.name for category in content.categories}
        problems = Problems(ann_file, raw)
        for position, annotation in enumerate(annotations):
            what = _annotation_problem(annotation, row_of, name_of, names, label_of)
            if what:
                problems.add(what, annotation.id if annotation.id is not None else f"at position {position}")
        problems.raise_if_any()
    check_unique(ann_file, "annotation id", [annotation.id for annotation in annotations])
    crowd = np.array([annotation.iscrowd == 1 for annotation in annotations], bool)
    return np.array(rows, np.int64), np.array(labels, np.int32), crowd


def _annotation_problem(
    annotation: _Annotation,
    row_of: dict[Any, int],
    name_of: dict[int, str],
    names: list[str],
    label_of: dict[int, int],
) -> str:
    absent = [key for key in ("id", "image_id", "category_id", "bbox") if getattr(annotation, key) is None]
    if absent:
        return f"the key {' and '.join(map(repr, absent))} is missing"
    if type(annotation.id) not in (int, str):
        return f"the id {annotation.id!r} is neither a number nor a text"
    image_id, category_id = annotation.image_id, annotation.category_id
    if type(image_id) not in (int, str) or image_id not in row_of:
        other = str(image_id) if isinstance(image_id, int) else _as_int(image_id)
        hint = f" (but one with id {other!r}: number and text differ)" if other in row_of else ""
        return f"no image has the id {image_id!r}{hint}"
    if type(category_id) is not int or category_id not in name_of:
        return f"image {image_id!r}: no category has the id {category_id!r}"
    if category_id not in label_of:
        return f"image {image_id!r}: {_unknown_category(name_of[category_id], names)}"
    if annotation.iscrowd not in (0, 1):
        return f"image {image_id!r}: iscrowd is {annotation.iscrowd!r}, not 0 or 1"
    return ""


def _unknown_category(name: str, names: list[str]) -> str:
    near = nearest_name(name, [known for known in names if known != UNUSED_CLASS])
    known = f"did you mean {near!r}?" if near else f"it names {len(names)} classes"
    return f"the category {name!r} is not among the classes of the configuration ({known})"


def _as_int(text: Any) -> int | None:
    return int(text) if isinstance(text, str) and text.isdecimal() and text.isascii() else None


def _image_sizes(ann_file: Path, image_dir: Path, images: list[_Image], may_read: bool) -> list[tuple[int, int]]:
    problems = Problems(ann_file)
    sizes = []
    unknown = []
    for row, image in enumerate(images):
        width, height = image.width, image.height
        if not width or not height:
            unknown.append(row)
            width = height = 0
        elif not (_whole(width) and _whole(height)):
            problems.add(f"image {image.id!r} has width {width!r} and height {height!r}")
            width = height = 0
        sizes.append((int(width), int(height)))
    problems.raise_if_any()
    if unknown and may_read:
        logger.info("%s gives no size for %d images: reading it from the files", ann_file, len(unknown))
        for row in unknown:
            sizes[row] = read_image_size(image_dir / images[row].file_name, ann_file)
    return sizes


def _whole(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0 and value == int(value)


def _fill_report(report: ReadReport, counts: np.ndarray, crowd: np.ndarray, images: int) -> None:
    report.images = images
    report.crowds = int(crowd.sum())
    report.boxes = len(crowd) - report.crowds
    report.images_without_boxes = int((counts == 0).sum())


def _log(ann_file: Path, report: ReadReport, classes: int) -> None:
    logger.info(
        "%s: %d images (%d without boxes), %d boxes and %d crowd regions of %d classes",
        *(ann_file, report.images, report.images_without_boxes, report.boxes, report.crowds, classes),
    )
    if report.clipped:
        logger.info("%s: %d boxes stuck out of their image by at most a pixel and were cut", ann_file, report.clipped)
    if report.skipped:
        logger.warning("%s: %d bad boxes skipped: %s", ann_file, report.skipped, "; ".join(report.notes))
