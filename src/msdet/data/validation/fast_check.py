"""The part of a data set's check that costs nothing once the annotations are read; every training begins with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from msdet.data.validation.findings import Finding
from msdet.data.validation.statistics import BoxTable, class_counts
from msdet.text import first_few

if TYPE_CHECKING:
    from msdet.config import Config
    from msdet.data.dataset import DetectionDataset

# A class of fewer boxes is rare; a side of fewer px is lost at the coarsest of the first strides; a share of such boxes
# that deserves a warning.
_RARE, _TINY, _TINY_SHARE = 10, 4, 0.05


def fast_findings(cfg: Config, dataset: DetectionDataset, split: str) -> list[Finding]:
    """What the boxes alone tell of a training that will go badly; reading has refused what would train wrongly."""
    table = BoxTable.of(dataset)
    found: list[Finding] = []
    name = dataset.ann_file
    again = int(table.duplicates().sum())
    if again:
        found.append(
            Finding("duplicated box", "warning", f"{name}: {again} boxes are there twice; check --fix drops them")
        )
    counts = class_counts(dataset, table)
    unused = [f"{cls}" for cls, boxes, _ in counts if not boxes]
    rare = [f"{cls} ({boxes})" for cls, boxes, _ in counts if 0 < boxes < _RARE]
    if unused and split == "train":
        found.append(
            Finding("unused class", "warning", f"{name}: {len(unused)} classes have no box: {first_few(unused)}")
        )
    if rare and split == "train":
        text = f"{name}: {len(rare)} classes have fewer than {_RARE} boxes: {first_few(rare)}"
        found.append(Finding("rare class", "note", text))
    sides = table.sides_at(cfg.testing_size, cfg.resize).min(axis=1, initial=np.inf)
    tiny = int((sides < _TINY).sum())
    if tiny:
        share = f"{tiny} of {len(sides)} boxes ({tiny / len(sides):.1%})"
        text = f"{name}: {share} are less than {_TINY} px high or wide at the input size {cfg.testing_size[0]}"
        severity = "warning" if tiny > len(sides) * _TINY_SHARE else "note"
        found.append(Finding("box too small at the input size", severity, text))
    return found
