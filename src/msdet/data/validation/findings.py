"""What a check of a data set found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

# What would train wrongly or stop a training; what is worth a look; what is only told.
SEVERITIES = ("error", "warning", "note")


@dataclass(slots=True)
class Finding:
    """Something found in the data.

    Attributes:
        kind: a few words by which reports group findings, e.g. "box outside its image".
        severity: one of `SEVERITIES`.
        text: one sentence with file, image and box.
        image: file name of the image, from the image folder; empty if it is about none or several.
        fix: what a cleaned copy does about it; empty if nothing.
    """

    kind: str
    severity: str
    text: str
    image: str = ""
    fix: str = ""


@dataclass
class SplitReport:
    """What was found in a split.

    Attributes:
        split: "train" or "val".
        source, format: the annotations.
        findings: in the order of their discovery.
        numbers: counts of images, boxes and the like.
        classes: for each class its name, boxes and images.
    """

    split: str
    source: str
    format: str
    findings: list[Finding] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    classes: list[dict[str, Any]] = field(default_factory=list)

    def add(self, kind: str, severity: str, text: str, image: str = "", fix: str = "") -> None:
        """Notes a finding."""
        self.findings.append(Finding(kind, severity, text, image, fix))

    def count(self, severity: str) -> int:
        """Findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON takes it."""
        return asdict(self)


def by_kind(findings: Iterable[Finding]) -> list[tuple[str, list[Finding]]]:
    """Findings in groups of one kind, the severe and the frequent first."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.kind, []).append(finding)
    return sorted(groups.items(), key=lambda group: (_rank(group[1]), -len(group[1])))


def _rank(findings: Sequence[Finding]) -> int:
    return min(SEVERITIES.index(finding.severity) for finding in findings)
