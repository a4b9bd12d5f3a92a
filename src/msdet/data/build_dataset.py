"""Validates parsed annotations and builds the dataset from them; the same code for all formats.

Nothing invalid is dropped silently. Malformed entries, unknown ids or classes and missing images raise a `UserError`
that lists the first few. So do invalid boxes, unless the caller asks to skip them; skipped boxes are counted.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import numpy as np

from msdet.data.annotations import (
    MAX_SHOWN,
    BoxEntry,
    ImageEntry,
    ProblemList,
    RawAnnotations,
    check_unique,
    leaves_folder,
)
from msdet.data.areas import read_areas
from msdet.data.categories import UNUSED_CLASS, map_classes
from msdet.data.dataset import DetectionDataset, ReadReport, samples_from_arrays
from msdet.data.formats.file_names import log_renamed, resolve_file_names, shared_files, suggest_location
from msdet.data.images.decode import read_image_size
from msdet.data.read_options import ReadOptions
from msdet.data.validation.boxes import BoxCheck, missing_files, nearest_name
from msdet.data.validation.faults import DescribedFault, Fault
from msdet.errors import UserError

logger = logging.getLogger(__name__)


def build_dataset(raw: RawAnnotations, options: ReadOptions) -> DetectionDataset:
    """Validates annotations, checks that the image files exist, and builds the samples.

    A box that exceeds its image by at most one pixel is clipped and counted. Missing image sizes are read from the
    image files.

    Raises:
        UserError: an annotation is invalid or an image is missing; names file, image and box.
    """
    raw.raise_problems()
    names, category_ids, label_of = map_classes(raw, options)
    report = ReadReport()
    # YOLO boxes are relative to the image size, so they need the image.
    is_needed = options.check_images or raw.format == "yolo"
    if is_needed and raw.store is None:
        log_renamed(raw, resolve_file_names(raw))
    check_images(raw, options.check_images)
    _warn_of_shared_files(raw)
    skipped_image_ids = _check_files(raw, options, is_needed) if raw.store is None else frozenset()
    report.missing = len(skipped_image_ids)
    rows, labels = _check_annotations(raw, names, label_of)
    sizes = _image_sizes(raw, is_needed)
    measured = BoxCheck(raw, rows, sizes).run(options.on_bad_box, report)
    keep = measured.keep
    crowd = np.array([annotation.iscrowd == 1 for annotation in raw.annotations], bool)
    difficult = np.array([annotation.difficult == 1 for annotation in raw.annotations], bool)
    if not options.keep_crowd:
        keep &= ~crowd
    if not options.keep_difficult:
        keep &= ~difficult
    order = np.flatnonzero(keep)
    order = order[np.argsort(rows[order], kind="stable")]
    counts = np.bincount(rows[order], minlength=len(raw.images))
    paths = [f"{raw.image_dir}/{image.file_name}" for image in raw.images]
    ids = [image.id for image in raw.images]
    flags = (crowd[order], difficult[order])
    samples = samples_from_arrays(paths, ids, sizes.tolist(), counts, measured.corners[order], labels[order], *flags)
    _fill_report(report, counts, crowd[order], len(paths))
    _log(raw, report, len([name for name in names if name != UNUSED_CLASS]))
    return DetectionDataset(
        samples,
        names,
        category_ids,
        raw.source,
        raw.image_dir,
        report,
        raw.format,
        store=raw.store,
        areas=read_areas(raw, order),
        xywh=measured.xywh[order],
        skipped_image_ids=skipped_image_ids,
        other_categories=frozenset(category.id for category in raw.categories) - frozenset(label_of),
    )


def _warn_of_shared_files(raw: RawAnnotations) -> None:
    shared = shared_files(raw)
    if shared:
        name, ids = shared[0]
        logger.warning(
            "%s: %d files have several image ids, such as %s (%s): for each id the objects of the others are "
            "background. msdet check --fix OUT merges them",
            *(raw.source, len(shared), name, ", ".join(map(repr, ids))),
        )


def check_images(raw: RawAnnotations, require_names: bool = True) -> None:
    """Checks ids and file names; with `require_names` False a missing name becomes an empty string.

    Raises:
        UserError: an image has no valid id or file name, a name points outside the folder, or an id occurs twice.
    """
    problems = ProblemList(raw)
    for position, image in enumerate(raw.images):
        if type(image.id) not in (int, str):
            problems.add(f"image {position} has {'no id' if image.id is None else f'the id {image.id!r}'}")
        elif image.file_name is None and not require_names:
            image.file_name = ""
        elif not isinstance(image.file_name, str) or not image.file_name:
            problems.add(f"image {image.id!r} has no file_name")
        elif leaves_folder(image.file_name):
            problems.add(
                f"image {image.id!r}: file_name {image.file_name!r} points outside the image folder {raw.image_dir}"
            )
    problems.raise_if_any()
    check_unique(raw, "image id", [image.id for image in raw.images])


def _check_files(raw: RawAnnotations, options: ReadOptions, is_needed: bool) -> frozenset[str | int]:
    """Checks that all image files exist; with on_bad_image=skip removes missing ones from `raw`. Returns their ids."""
    folder = raw.image_dir
    if not is_needed and options.on_bad_image != "skip":
        return frozenset()
    if is_needed and not folder.is_dir():
        raise UserError(f"the image folder {folder} of {raw.source} is missing")
    missing = missing_files(folder, [image.file_name for image in raw.images])
    if not missing:
        return frozenset()
    if not is_needed and len(missing) == len(raw.images):
        logger.info("none of the %d images is in %s: scoring all of them", len(missing), folder)
        return frozenset()
    shown = ", ".join(missing[:MAX_SHOWN]) + (", ..." if len(missing) > MAX_SHOWN else "")
    what = f"{len(missing)} of {len(raw.images)} images named in {raw.source} are missing in {folder}: {shown}"
    if options.on_bad_image != "skip" or len(missing) == len(raw.images):
        raise UserError(what + suggest_location(folder, missing[0]))
    logger.warning("%s; skipping them", what)
    gone = set(missing)
    lost = {image.id for image in raw.images if image.file_name in gone}
    raw.images = [image for image in raw.images if image.file_name not in gone]
    stay = [not _holds(lost, annotation.image_id) for annotation in raw.annotations]
    if raw.places is not None:
        raw.places = [place for place, kept in zip(raw.places, stay, strict=True) if kept]
    raw.annotations = [entry for entry, kept in zip(raw.annotations, stay, strict=True) if kept]
    return frozenset(lost)


def _holds(values: set[Any], value: Any) -> bool:
    return type(value) in (int, str) and value in values


def _check_annotations(
    raw: RawAnnotations, names: list[str], label_of: dict[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Image row (n,) int64 and label (n,) int32 of each annotation."""
    annotations = raw.annotations
    row_of = {image.id: row for row, image in enumerate(raw.images)}
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
        name_of = {category.id: category.name for category in raw.categories}
        problems = ProblemList(raw)
        for position, annotation in enumerate(annotations):
            found = annotation_problem(annotation, row_of, name_of, names, label_of)
            if found:
                problems.add(found.text, position)
        problems.raise_if_any()
    check_unique(raw, "annotation id", [annotation.id for annotation in annotations])
    return np.array(rows, np.int64), np.array(labels, np.int32)


def annotation_problem(
    annotation: BoxEntry,
    row_of: dict[Any, int],
    name_of: dict[int, str],
    names: list[str],
    label_of: dict[int, int],
) -> DescribedFault | None:
    """The first problem of an annotation's ids and flags (its box is checked elsewhere); None if there is none.

    Args:
        annotation: as in its file.
        row_of: position of each image id.
        name_of: name of each category id.
        names: classes of the configuration.
        label_of: label of each category id whose class is in the configuration.
    """
    absent = [key for key in ("id", "image_id", "category_id", "bbox") if getattr(annotation, key) is None]
    if absent:
        return DescribedFault(Fault.LACKS_KEY, f"the key {' and '.join(map(repr, absent))} is missing")
    if type(annotation.id) not in (int, str):
        return DescribedFault(Fault.MALFORMED, f"the id {annotation.id!r} is neither an integer nor a string")
    image_id, category_id = annotation.image_id, annotation.category_id
    if type(image_id) not in (int, str) or image_id not in row_of:
        other = str(image_id) if isinstance(image_id, int) else _as_int(image_id)
        hint = f" (but one has the id {other!r}: integer and string ids differ)" if other in row_of else ""
        return DescribedFault(Fault.UNKNOWN_IMAGE, f"no image has the id {image_id!r}{hint}")
    if type(category_id) is not int or category_id not in name_of:
        return DescribedFault(Fault.UNKNOWN_CATEGORY, f"image {image_id!r}: no category has the id {category_id!r}")
    if category_id not in label_of:
        text = f"image {image_id!r}: {_unknown_category(name_of[category_id], names)}"
        return DescribedFault(Fault.UNKNOWN_CLASS, text)
    if annotation.iscrowd not in (0, 1):
        return DescribedFault(Fault.BAD_ISCROWD, f"image {image_id!r}: iscrowd is {annotation.iscrowd!r}, not 0 or 1")
    return None


def _unknown_category(name: str, names: list[str]) -> str:
    near = nearest_name(name, [known for known in names if known != UNUSED_CLASS])
    known = f"did you mean {near!r}?" if near else f"it has {len(names)} classes"
    return f"the category {name!r} is not among the classes of the configuration ({known})"


def _as_int(text: Any) -> int | None:
    return int(text) if isinstance(text, str) and text.isdecimal() and text.isascii() else None


def _image_sizes(raw: RawAnnotations, is_needed: bool) -> np.ndarray:
    """Width and height (images, 2) int64 in pixels; 0 where neither annotations nor files give them.

    Raises:
        UserError: an annotated size is invalid, or an image that is needed cannot be read.
    """
    problems = ProblemList(raw)
    sizes = np.zeros((len(raw.images), 2), np.int64)
    unknown: list[tuple[int, ImageEntry]] = []
    for row, image in enumerate(raw.images):
        width, height = image.width, image.height
        if not width or not height:
            unknown.append((row, image))
        elif is_valid_size(width) and is_valid_size(height):
            sizes[row] = width, height
        else:
            problems.add(f"image {image.id!r} has width {width!r} and height {height!r}")
    problems.raise_if_any()
    if unknown and raw.store is None and (is_needed or raw.image_dir.is_dir()):
        logger.info("%s has no size for %d images: reading it from the image files", raw.source, len(unknown))
        for row, image in unknown:
            # An unknown size only means that boxes are not checked against it.
            with contextlib.nullcontext() if is_needed else contextlib.suppress(UserError):
                sizes[row] = read_image_size(raw.image_dir / image.file_name, raw.source)
    return sizes


def is_valid_size(value: Any) -> bool:
    """True for a positive whole number below 2^31, written as 5 or as 5.0."""
    # The upper limit also excludes infinity, which int() does not take.
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 2**31 and value == int(value)


def _fill_report(report: ReadReport, counts: np.ndarray, crowd: np.ndarray, images: int) -> None:
    report.images = images
    report.crowds = int(crowd.sum())
    report.boxes = len(crowd) - report.crowds
    report.images_without_boxes = int((counts == 0).sum())


def _log(raw: RawAnnotations, report: ReadReport, classes: int) -> None:
    logger.info(
        "%s: %d images (%d without boxes), %d boxes and %d crowd regions of %d classes",
        *(raw.source, report.images, report.images_without_boxes, report.boxes, report.crowds, classes),
    )
    if report.clipped:
        logger.info("%s: clipped %d boxes that exceeded their image by at most one pixel", raw.source, report.clipped)
    if report.skipped:
        logger.warning("%s: skipped %d bad boxes: %s", raw.source, report.skipped, "; ".join(report.notes))
