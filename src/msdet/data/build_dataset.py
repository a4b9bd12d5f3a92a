"""From what annotations say to checked samples; the same for all formats.

What is wrong is never silently dropped. Broken structure, unknown ids or classes and missing images end in a
`UserError` that lists the first few; bad boxes do too, unless the caller asks to skip, and then they are counted.
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
from msdet.data.validation.faults import Described, Fault
from msdet.errors import UserError

logger = logging.getLogger(__name__)


def build_dataset(content: RawAnnotations, options: ReadOptions) -> DetectionDataset:
    """Checks annotations against themselves and the image folder, and makes samples of them.

    A box that sticks out of its image by one pixel or less is cut to it and counted. Sizes that the annotations lack
    are read from the image files.

    Raises:
        UserError: what is wrong, with file, image and box.
    """
    content.raise_problems()
    names, category_ids, label_of = map_classes(content, options)
    report = ReadReport()
    # Boxes of YOLO are shares of an image: without it there are none.
    is_needed = options.check_images or content.format == "yolo"
    if is_needed and content.store is None:
        log_renamed(content, resolve_file_names(content))
    check_images(content, options.check_images)
    _warn_of_shared_files(content)
    skipped_image_ids = _check_files(content, options, is_needed) if content.store is None else frozenset()
    report.missing = len(skipped_image_ids)
    rows, labels = _check_annotations(content, names, label_of)
    sizes = _image_sizes(content, is_needed)
    measured = BoxCheck(content, rows, sizes).run(options.on_bad_box, report)
    keep = measured.keep
    crowd = np.array([annotation.iscrowd == 1 for annotation in content.annotations], bool)
    difficult = np.array([annotation.difficult == 1 for annotation in content.annotations], bool)
    if not options.keep_crowd:
        keep &= ~crowd
    if not options.keep_difficult:
        keep &= ~difficult
    order = np.flatnonzero(keep)
    order = order[np.argsort(rows[order], kind="stable")]
    counts = np.bincount(rows[order], minlength=len(content.images))
    paths = [f"{content.image_dir}/{image.file_name}" for image in content.images]
    ids = [image.id for image in content.images]
    flags = (crowd[order], difficult[order])
    samples = samples_from_arrays(paths, ids, sizes.tolist(), counts, measured.corners[order], labels[order], *flags)
    _fill_report(report, counts, crowd[order], len(paths))
    _log(content, report, len([name for name in names if name != UNUSED_CLASS]))
    return DetectionDataset(
        samples,
        names,
        category_ids,
        content.source,
        content.image_dir,
        report,
        content.format,
        store=content.store,
        areas=read_areas(content, order),
        xywh=measured.xywh[order],
        skipped_image_ids=skipped_image_ids,
        other_categories=frozenset(category.id for category in content.categories) - frozenset(label_of),
    )


def _warn_of_shared_files(content: RawAnnotations) -> None:
    shared = shared_files(content)
    if shared:
        name, ids = shared[0]
        logger.warning(
            "%s: %d files stand under several image ids, such as %s (%s): each takes the objects of the others for "
            "background. msdet check --fix OUT puts them together",
            *(content.source, len(shared), name, ", ".join(map(repr, ids))),
        )


def check_images(content: RawAnnotations, require_names: bool = True) -> None:
    """Checks ids and file names; an absent name that is not needed becomes empty.

    Raises:
        UserError: an image has no id or file name, a name leads out of the folder, or an id occurs twice.
    """
    problems = ProblemList(content)
    for position, image in enumerate(content.images):
        if type(image.id) not in (int, str):
            problems.add(f"image {position} has {'no id' if image.id is None else f'the id {image.id!r}'}")
        elif image.file_name is None and not require_names:
            image.file_name = ""
        elif not isinstance(image.file_name, str) or not image.file_name:
            problems.add(f"image {image.id!r} has no file_name")
        elif leaves_folder(image.file_name):
            problems.add(
                f"image {image.id!r}: file_name {image.file_name!r} leads out of the image folder {content.image_dir}"
            )
    problems.raise_if_any()
    check_unique(content, "image id", [image.id for image in content.images])


def _check_files(content: RawAnnotations, options: ReadOptions, is_needed: bool) -> frozenset[str | int]:
    """Looks for every image; with on_bad_image=skip those that are missing leave `content`, and their ids are told."""
    folder = content.image_dir
    if not is_needed and options.on_bad_image != "skip":
        return frozenset()
    if is_needed and not folder.is_dir():
        raise UserError(f"the image folder {folder} of {content.source} is missing")
    missing = missing_files(folder, [image.file_name for image in content.images])
    if not missing:
        return frozenset()
    if not is_needed and len(missing) == len(content.images):
        logger.info("none of the %d images is in %s: all are scored", len(missing), folder)
        return frozenset()
    shown = ", ".join(missing[:MAX_SHOWN]) + (", ..." if len(missing) > MAX_SHOWN else "")
    what = f"{len(missing)} of {len(content.images)} images named in {content.source} are missing in {folder}: {shown}"
    if options.on_bad_image != "skip" or len(missing) == len(content.images):
        raise UserError(what + suggest_location(folder, missing[0]))
    logger.warning("%s; they are left out", what)
    gone = set(missing)
    lost = {image.id for image in content.images if image.file_name in gone}
    content.images = [image for image in content.images if image.file_name not in gone]
    stay = [not _holds(lost, annotation.image_id) for annotation in content.annotations]
    if content.places is not None:
        content.places = [place for place, kept in zip(content.places, stay, strict=True) if kept]
    content.annotations = [entry for entry, kept in zip(content.annotations, stay, strict=True) if kept]
    return frozenset(lost)


def _holds(values: set[Any], value: Any) -> bool:
    return type(value) in (int, str) and value in values


def _check_annotations(
    content: RawAnnotations, names: list[str], label_of: dict[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Row of its image and label of each annotation."""
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
        problems = ProblemList(content)
        for position, annotation in enumerate(annotations):
            found = annotation_problem(annotation, row_of, name_of, names, label_of)
            if found:
                problems.add(found.text, position)
        problems.raise_if_any()
    check_unique(content, "annotation id", [annotation.id for annotation in annotations])
    return np.array(rows, np.int64), np.array(labels, np.int32)


def annotation_problem(
    annotation: BoxEntry,
    row_of: dict[Any, int],
    name_of: dict[int, str],
    names: list[str],
    label_of: dict[int, int],
) -> Described | None:
    """What is wrong with the ids of an annotation, besides its box; None if nothing is.

    Args:
        annotation: as in its file.
        row_of: position of each image id.
        name_of: name of each category id.
        names: classes of the configuration.
        label_of: label of each category id that the configuration knows.
    """
    absent = [key for key in ("id", "image_id", "category_id", "bbox") if getattr(annotation, key) is None]
    if absent:
        return Described(Fault.LACKS_KEY, f"the key {' and '.join(map(repr, absent))} is missing")
    if type(annotation.id) not in (int, str):
        return Described(Fault.BROKEN, f"the id {annotation.id!r} is neither a number nor a text")
    image_id, category_id = annotation.image_id, annotation.category_id
    if type(image_id) not in (int, str) or image_id not in row_of:
        other = str(image_id) if isinstance(image_id, int) else _as_int(image_id)
        hint = f" (but one with id {other!r}: number and text differ)" if other in row_of else ""
        return Described(Fault.UNKNOWN_IMAGE, f"no image has the id {image_id!r}{hint}")
    if type(category_id) is not int or category_id not in name_of:
        return Described(Fault.UNKNOWN_CATEGORY, f"image {image_id!r}: no category has the id {category_id!r}")
    if category_id not in label_of:
        text = f"image {image_id!r}: {_unknown_category(name_of[category_id], names)}"
        return Described(Fault.UNKNOWN_CLASS, text)
    if annotation.iscrowd not in (0, 1):
        return Described(Fault.BAD_ISCROWD, f"image {image_id!r}: iscrowd is {annotation.iscrowd!r}, not 0 or 1")
    return None


def _unknown_category(name: str, names: list[str]) -> str:
    near = nearest_name(name, [known for known in names if known != UNUSED_CLASS])
    known = f"did you mean {near!r}?" if near else f"it names {len(names)} classes"
    return f"the category {name!r} is not among the classes of the configuration ({known})"


def _as_int(text: Any) -> int | None:
    return int(text) if isinstance(text, str) and text.isdecimal() and text.isascii() else None


def _image_sizes(content: RawAnnotations, is_needed: bool) -> np.ndarray:
    """int64 (images, 2) width and height; 0 where neither annotations nor files tell.

    Raises:
        UserError: an annotated size is none, or an image that is needed cannot be read.
    """
    problems = ProblemList(content)
    sizes = np.zeros((len(content.images), 2), np.int64)
    unknown: list[tuple[int, ImageEntry]] = []
    for row, image in enumerate(content.images):
        width, height = image.width, image.height
        if not width or not height:
            unknown.append((row, image))
        elif is_valid_size(width) and is_valid_size(height):
            sizes[row] = width, height
        else:
            problems.add(f"image {image.id!r} has width {width!r} and height {height!r}")
    problems.raise_if_any()
    if unknown and content.store is None and (is_needed or content.image_dir.is_dir()):
        logger.info("%s gives no size for %d images: reading it from the files", content.source, len(unknown))
        for row, image in unknown:
            # Without its size nothing of an image is known to be outside.
            with contextlib.nullcontext() if is_needed else contextlib.suppress(UserError):
                sizes[row] = read_image_size(content.image_dir / image.file_name, content.source)
    return sizes


def is_valid_size(value: Any) -> bool:
    """True for a positive whole number, written as 5 or as 5.0."""
    # The limit keeps infinity from int(), and the sizes within what an image can have.
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 2**31 and value == int(value)


def _fill_report(report: ReadReport, counts: np.ndarray, crowd: np.ndarray, images: int) -> None:
    report.images = images
    report.crowds = int(crowd.sum())
    report.boxes = len(crowd) - report.crowds
    report.images_without_boxes = int((counts == 0).sum())


def _log(content: RawAnnotations, report: ReadReport, classes: int) -> None:
    logger.info(
        "%s: %d images (%d without boxes), %d boxes and %d crowd regions of %d classes",
        *(content.source, report.images, report.images_without_boxes, report.boxes, report.crowds, classes),
    )
    if report.clipped:
        logger.info(
            "%s: %d boxes stuck out of their image by at most a pixel and were cut", content.source, report.clipped
        )
    if report.skipped:
        logger.warning("%s: %d bad boxes skipped: %s", content.source, report.skipped, "; ".join(report.notes))
