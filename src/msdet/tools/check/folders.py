"""Checks the image folders of a classifier; see `src/msdet/tools/check/check.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msdet.data.validation.findings import SplitReport
from msdet.data.validation.image_scan import scan_images
from msdet.errors import UserError
from msdet.session.datasets import open_image_folder
from msdet.tools.check.checked_split import CheckedSplit
from msdet.tools.check.splits import compare_splits, find_duplicate_images

if TYPE_CHECKING:
    from msdet.config import Config

_RARE = 10


def check_folders(cfg: Config, splits: Sequence[str], decode: bool = True) -> list[CheckedSplit]:
    """Checks the splits of an image folder, and compares them."""
    checked = [_check_split(cfg, split, decode) for split in splits]
    if len(checked) == 2:
        compare_splits(*checked)
    return checked


def _check_split(cfg: Config, split: str, decode: bool) -> CheckedSplit:
    report = SplitReport(split, cfg.data_dir, "imagefolder")
    try:
        dataset, _ = open_image_folder(cfg, split)
    except UserError as error:
        report.add("unreadable folders", "error", str(error))
        return CheckedSplit(report, None, {})
    report.source = str(dataset.root)
    workers = max(1, cfg.num_parallel_workers)
    scan = scan_images(Path(dataset.root), dataset.files, decode=decode, store=dataset.store, workers=workers,
                       max_pixels=cfg.max_image_pixels)  # fmt: skip
    digests = {}
    for name, info in zip(dataset.files, scan, strict=True):
        if info.error:
            report.add("corrupt image", "error", info.error, name)
        for note in info.notes:
            report.add(note.kind, "warning", note.text, name)
        if info.digest:
            digests[name] = info.digest
    find_duplicate_images(digests, report)
    counts = np.bincount(dataset.labels, minlength=len(dataset.class_names)).tolist()
    rows = zip(dataset.class_names, counts, strict=True)
    report.classes = [{"name": name, "boxes": count, "images": count} for name, count in rows]
    rare = [f"{name} ({count})" for name, count in zip(dataset.class_names, counts, strict=True) if count < _RARE]
    if rare and split == "train":
        text = f"{dataset.root}: {len(rare)} classes have fewer than {_RARE} images: {', '.join(rare[:5])}"
        report.add("rare class", "note", text)
    report.statistics = {"images": len(dataset), "classes": len(dataset.class_names)}
    return CheckedSplit(report, None, digests)
