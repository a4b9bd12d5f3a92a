"""Detects the annotation format of a dataset and reads its annotations."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NoReturn

from msdet.data.annotations import RawAnnotations
from msdet.data.formats.coco.layouts import LAYOUTS
from msdet.data.formats.format import AnnotationFormat, SourceOptions
from msdet.data.formats.mindrecord.read import refuse_foreign_mindrecord
from msdet.data.formats.table import FORMATS, format_of
from msdet.errors import UsageError, UserError

logger = logging.getLogger(__name__)


def load_annotations(options: SourceOptions, split: str) -> RawAnnotations:
    """Finds and parses the annotations of a split, without validating them.

    Args:
        options: location and format.
        split: `train`, `val`, or `test` for images that need no annotations.

    Raises:
        UserError: they are missing or cannot be read; the message lists what was looked for.
    """
    if options.dataset != "auto":
        return format_of(options.dataset).load(options, split)
    found = detect_format(options, split)
    place = f"data_dir {options.data_dir}" if options.data_dir else str(options.ann_file)
    logger.info("%s: detected the annotation format %r (--dataset overrides it)", place, found.name)
    return found.load(options, split)


def detect_format(options: SourceOptions, split: str) -> AnnotationFormat:
    """The format of the annotation file if one is given, else of the dataset folder.

    Raises:
        UserError: no format or more than one matches.
    """
    root = options.root
    if options.ann_file:
        path = root / options.ann_file
        return next((kind for kind in FORMATS if kind.matches_file(path)), format_of("coco"))
    if not options.data_dir:
        raise UsageError("data_dir is empty: give the dataset folder with --data_dir")
    if not root.is_dir():
        raise UserError(f"data_dir {root} is not a folder")
    found = [kind for kind in FORMATS if kind.matches_folder(options, split)]
    if len(found) > 1:
        names = ", ".join(sorted(kind.name for kind in found))
        raise UserError(
            f"data_dir {root} contains annotations in {len(found)} formats: {names}; choose one with --dataset"
        )
    return found[0] if found else _raise_no_format(root, split)


def _raise_no_format(root: Path, split: str) -> NoReturn:
    refuse_foreign_mindrecord(root)
    files = ", or ".join(dict.fromkeys(f"{layout[split][0]} with {layout[split][1]}/" for layout in LAYOUTS.values()))
    folders = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    contents = f"; it contains the folders {', '.join(folders[:8])}" if folders else ""
    if any(path.is_dir() for path in root.glob(f"{split}/*")):
        contents += f" (one folder per class in {split}/ is for classifiers)"
    texts = [
        kind.folder_description.format(files=files, split=split)
        for kind in reversed(FORMATS)
        if kind.folder_description
    ]
    raise UserError(
        f"data_dir {root} contains no split {split!r} of a detection dataset{contents}. Looked for: {', '.join(texts)}"
    )
