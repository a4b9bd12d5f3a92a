"""The result of the check of one split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from msdet.data.dataset import DetectionDataset
    from msdet.data.validation.findings import SplitReport


@dataclass
class CheckedSplit:
    """A checked split.

    Attributes:
        report: the findings and statistics.
        dataset: the cleaned dataset; None if it could not be read, and for classifiers.
        digests: hash of each readable image by file name.
    """

    report: SplitReport
    dataset: DetectionDataset | None
    digests: dict[str, str]
