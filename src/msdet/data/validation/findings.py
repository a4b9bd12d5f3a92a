"""The findings of a dataset check."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

# Error: training would fail or be wrong; warning: should be looked at; note: information.
SEVERITIES = ("error", "warning", "note")


@dataclass(slots=True)
class Finding:
    """One finding of a dataset check.

    Attributes:
        kind: by which reports group findings, e.g. "box outside its image".
        severity: one of `SEVERITIES`.
        text: one sentence with file, image and box.
        image: file name relative to the image folder; empty if the finding is about no image or several.
        fix: what `--fix` does about it; empty if nothing.
    """

    kind: str
    severity: str
    text: str
    image: str = ""
    fix: str = ""


@dataclass
class SplitReport:
    """The findings and statistics of a split.

    Attributes:
        split: "train" or "val".
        source, format: the annotations.
        findings: in the order in which they were found.
        statistics: counts of images, boxes and the like.
        classes: name, number of boxes and number of images of each class.
    """

    split: str
    source: str
    format: str
    findings: list[Finding] = field(default_factory=list)
    statistics: dict[str, Any] = field(default_factory=dict)
    classes: list[dict[str, Any]] = field(default_factory=list)

    def add(self, kind: str, severity: str, text: str, image: str = "", fix: str = "") -> None:
        """Adds a finding."""
        self.findings.append(Finding(kind, severity, text, image, fix))

    def count(self, severity: str) -> int:
        """Number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-compatible values."""
        return asdict(self)


def by_kind(findings: Iterable[Finding]) -> list[tuple[str, list[Finding]]]:
    """Groups findings by kind, sorted by severity, then by frequency."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.kind, []).append(finding)
    return sorted(groups.items(), key=lambda group: (_rank(group[1]), -len(group[1])))


def _rank(findings: Sequence[Finding]) -> int:
    return min(SEVERITIES.index(finding.severity) for finding in findings)
