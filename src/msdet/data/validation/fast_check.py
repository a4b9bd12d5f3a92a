"""The part of the dataset check that needs only the parsed annotations; it runs before every training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from msdet.data.validation.findings import Finding
from msdet.data.validation.statistics import BoxTable, class_counts
from msdet.text import first_few

if TYPE_CHECKING:
    from msdet.config import Config
    from msdet.data.dataset import DetectionDataset

# A class with fewer boxes is rare; a box with a side of fewer px is tiny; above the fraction, tiny boxes are a warning.
_RARE, _TINY, _TINY_FRACTION = 10, 4, 0.05


def fast_findings(cfg: Config, dataset: DetectionDataset, split: str) -> list[Finding]:
    """Findings from the boxes alone; invalid annotations were already rejected when they were read."""
    table = BoxTable.of(dataset)
    findings: list[Finding] = []
    name = dataset.ann_file
    duplicates = int(table.duplicates().sum())
    if duplicates:
        findings.append(
            Finding(
                "duplicate box", "warning", f"{name}: {duplicates} boxes are duplicates; msdet check --fix removes them"
            )
        )
    counts = class_counts(dataset, table)
    unused = [f"{cls}" for cls, boxes, _ in counts if not boxes]
    rare = [f"{cls} ({boxes})" for cls, boxes, _ in counts if 0 < boxes < _RARE]
    if unused and split == "train":
        findings.append(
            Finding("unused class", "warning", f"{name}: {len(unused)} classes have no boxes: {first_few(unused)}")
        )
    if rare and split == "train":
        text = f"{name}: {len(rare)} classes have fewer than {_RARE} boxes: {first_few(rare)}"
        findings.append(Finding("rare class", "note", text))
    sides = table.sides_at(cfg.testing_size, cfg.resize).min(axis=1, initial=np.inf)
    tiny = int((sides < _TINY).sum())
    if tiny:
        fraction = f"{tiny} of {len(sides)} boxes ({tiny / len(sides):.1%})"
        text = f"{name}: {fraction} are less than {_TINY} px wide or high at the input size {cfg.testing_size[0]}"
        severity = "warning" if tiny > len(sides) * _TINY_FRACTION else "note"
        findings.append(Finding("box too small at the input size", severity, text))
    return findings
