"""The result of a check as text and as JSON; `page.py` writes the HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msdet import files
from msdet.data.validation.findings import SEVERITIES, Finding, SplitReport, by_kind

# Findings of one kind that are listed.
_MAX_LISTED = 5


def as_text(reports: Sequence[SplitReport], seconds: float) -> str:
    """Lists every kind of finding with its count and the first examples."""
    lines = []
    for report in reports:
        lines.append(f"{report.split}: {report.source}" + (f" ({report.format})" if report.format else ""))
        lines += [f"  {name}: {format_value(value)}" for name, value in report.statistics.items()]
        for kind, findings in by_kind(report.findings):
            lines.append(f"  [{worst_severity(findings)}] {kind}: {len(findings)}")
            lines += [f"    {finding.text}" for finding in findings[:_MAX_LISTED]]
            if len(findings) > _MAX_LISTED:
                lines.append(f"    ... and {len(findings) - _MAX_LISTED} more (--json lists all)")
    totals = ", ".join(f"{sum(report.count(name) for report in reports)} {name}s" for name in SEVERITIES)
    lines.append(f"{totals}; {seconds:.1f} s")
    return "\n".join(lines) + "\n"


def worst_severity(findings: Sequence[Finding]) -> str:
    """The most severe severity among findings."""
    return min((finding.severity for finding in findings), key=SEVERITIES.index)


def format_value(value: object) -> str:
    """A statistic as text; a list may contain numbers or pairs of numbers."""
    if isinstance(value, list):
        return ", ".join(
            f"{item[0]:g} x {item[1]:g}" if isinstance(item, list | tuple) else f"{item:g}" for item in value
        )
    return str(value)


def write_json(reports: Sequence[SplitReport], path: Path) -> None:
    """Writes all findings and statistics."""
    files.write_json(path, {"splits": [report.to_dict() for report in reports]})
