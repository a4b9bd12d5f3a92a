"""The check of a classifier's pictures, a folder a class: see `src/msdet/tools/check/check.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msdet.data.validation.findings import SplitReport
from msdet.data.validation.image_scan import scan_images
from msdet.errors import UserError
from msdet.session.datasets import open_image_folder
from msdet.tools.check.checked import Checked
from msdet.tools.check.splits import compare_splits, find_copies

if TYPE_CHECKING:
    from msdet.config import Config

_RARE = 10


def check_folders(cfg: Config, splits: Sequence[str], decode: bool = True) -> list[Checked]:
    """Checks the splits of an image folder, and what they share."""
    checked = [_check_split(cfg, split, decode) for split in splits]
    if len(checked) == 2:
        compare_splits(*checked)
    return checked


def _check_split(cfg: Config, split: str, decode: bool) -> Checked:
    report = SplitReport(split, cfg.data_dir, "imagefolder")
    try:
        dataset, _ = open_image_folder(cfg, split)
    except UserError as error:
        report.add("unreadable folders", "error", str(error))
        return Checked(report, None, {})
    report.source = str(dataset.root)
    workers = max(1, cfg.num_parallel_workers)
    scan = scan_images(Path(dataset.root), dataset.files, decode=decode, store=dataset.store, workers=workers,
                       max_pixels=cfg.max_image_pixels)  # fmt: skip
    digests = {}
    for name, fact in zip(dataset.files, scan, strict=True):
        if fact.error:
            report.add("broken image", "error", fact.error, name)
        for note in fact.notes:
            report.add(note.kind, "warning", note.text, name)
        if fact.digest:
            digests[name] = fact.digest
    find_copies(digests, report)
    counts = np.bincount(dataset.labels, minlength=len(dataset.class_names)).tolist()
    rows = zip(dataset.class_names, counts, strict=True)
    report.classes = [{"name": name, "boxes": count, "images": count} for name, count in rows]
    rare = [f"{name} ({count})" for name, count in zip(dataset.class_names, counts, strict=True) if count < _RARE]
    if rare and split == "train":
        text = f"{dataset.root}: {len(rare)} classes have fewer than {_RARE} pictures: {', '.join(rare[:5])}"
        report.add("rare class", "note", text)
    report.numbers = {"images": len(dataset), "classes": len(dataset.class_names)}
    return Checked(report, None, digests)
