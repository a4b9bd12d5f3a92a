"""Reads COCO annotation files (instances_*.json)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from msdet.data.annotations import BoxEntry, Category, ImageEntry, RawAnnotations
from msdet.data.build_dataset import build_dataset
from msdet.data.categories import UNUSED_CLASS
from msdet.data.dataset import DetectionDataset
from msdet.data.read_options import ReadOptions
from msdet.errors import UserError

__all__ = ["UNUSED_CLASS", "load_coco", "read_coco"]


class _Found(msgspec.Struct):
    """The parts of a COCO file that are read; None if missing."""

    images: list[ImageEntry] | None = None
    annotations: list[BoxEntry] | None = None
    categories: list[Category] | None = None


@dataclass
class CocoFile:
    """The lists of a COCO file."""

    images: list[ImageEntry]
    annotations: list[BoxEntry]
    categories: list[Category]


def read_coco(
    ann_file: str | Path,
    image_dir: str | Path,
    class_names: tuple[str, ...] | list[str] = (),
    *,
    require_annotations: bool = True,
    **options: Any,
) -> DetectionDataset:
    """Reads and validates a COCO annotation file.

    Images without boxes, crowd regions, string ids and missing widths and heights are allowed.

    Args:
        ann_file: the JSON file.
        image_dir: folder to which the file names are relative.
        class_names, options: see `ReadOptions`.
        require_annotations: False accepts files that list images only (test-dev).

    Raises:
        UserError: an annotation is invalid or an image is missing; names file, image and annotation id.
        UsageError: an option has an unknown value.
    """
    wanted = ReadOptions(class_names, **options)
    return build_dataset(load_coco(Path(ann_file), Path(image_dir), require_annotations), wanted)


def load_coco(ann_file: Path, image_dir: Path, require_annotations: bool = True) -> RawAnnotations:
    """Parses a COCO file, without validating it.

    Raises:
        UserError: it is missing or not a COCO annotation file.
    """
    raw = _load(ann_file)
    file = decode_coco(ann_file, raw, require_annotations)
    return RawAnnotations(ann_file, image_dir, file.images, file.annotations, file.categories, json_bytes=raw)


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


def decode_coco(ann_file: Path, raw: bytes, require_annotations: bool = True) -> CocoFile:
    """Parses the JSON text of a COCO file.

    Args:
        ann_file: for messages.
        raw: JSON.
        require_annotations: False accepts a file without the list of annotations.

    Raises:
        UserError: it is not a COCO annotation file.
    """
    # msgspec builds only the declared fields: the masks, nine tenths of COCO's files, are skipped. What it rejects is
    # parsed by the standard library, which accepts NaN and 1e400 (reported later with their box) and reports line and
    # column of errors.
    try:
        found = msgspec.json.decode(raw, type=_Found)
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = _decode_slowly(ann_file, raw)
    images, annotations, categories = found.images, found.annotations, found.categories
    if annotations is None and not require_annotations:
        annotations = []
    if images is None or annotations is None or categories is None:
        parts = {"images": images, "categories": categories, "annotations": annotations}
        absent = [name for name, part in parts.items() if part is None]
        raise UserError(
            f"annotation file {ann_file} is not a COCO annotation file: the key {' and '.join(map(repr, absent))} is "
            'missing (expected {"images": [...], "annotations": [...], "categories": [...]})'
        )
    if not images:
        raise UserError(f"annotation file {ann_file} lists no images")
    file = CocoFile(images, annotations, categories)
    _convert_float_ids(file)
    return file


def _convert_float_ids(file: CocoFile) -> None:
    """Converts ids written as 7.0 to integers, for programs that store all numbers as floats."""
    for image in file.images:
        image.id = _as_integer(image.id)
    for category in file.categories:
        category.id = _as_integer(category.id)
    for box in file.annotations:
        box.id, box.image_id = _as_integer(box.id), _as_integer(box.image_id)
        box.category_id = _as_integer(box.category_id)


def _as_integer(value: Any) -> Any:
    return int(value) if type(value) is float and value.is_integer() else value


def _decode_slowly(ann_file: Path, raw: bytes) -> _Found:
    try:
        return msgspec.convert(json.loads(raw), _Found)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise UserError(f"annotation file {ann_file} is not JSON: {error.msg} at {place}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"annotation file {ann_file} is not JSON: byte {error.start} is not UTF-8") from error
    except msgspec.ValidationError as error:
        raise UserError(f"annotation file {ann_file} is not a COCO annotation file: {error}") from error
    except ValueError as error:
        # An integer of more than 4300 digits.
        what = str(error).partition(":")[0]
        raise UserError(f"annotation file {ann_file} is not a COCO annotation file: {what}") from error
    except RecursionError as error:
        raise UserError(f"annotation file {ann_file} is not a COCO annotation file: nested too deeply") from error
