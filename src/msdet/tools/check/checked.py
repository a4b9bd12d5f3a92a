"""What the parts of a check hand to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from msdet.data.dataset import DetectionDataset
    from msdet.data.validation.findings import SplitReport


@dataclass
class Checked:
    """A split that was checked.

    Attributes:
        report: what was found.
        dataset: a cleaned copy of it; None where nothing could be read.
        digests: file name -> digest of each readable image.
    """

    report: SplitReport
    dataset: DetectionDataset | None
    digests: dict[str, str]
