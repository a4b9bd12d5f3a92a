"""Findings: counts, groups and their order."""

from msdet.data.validation.findings import Finding, SplitReport, by_kind


def test_groups_are_sorted_by_severity_then_frequency():
    severities = {"rare": "note", "odd": "warning", "common": "error", "single": "error"}
    findings = [Finding(kind, severities[kind], "") for kind in ("rare", "odd", "single", "common", "rare", "common")]
    assert [(kind, len(group)) for kind, group in by_kind(findings)] == [
        ("common", 2), ("single", 1), ("odd", 1), ("rare", 2)
    ]  # fmt: skip


def test_the_worst_finding_decides_the_place_of_a_group():
    findings = [Finding("a", "warning", ""), Finding("b", "note", ""), Finding("b", "error", "")]
    assert [kind for kind, _ in by_kind(findings)] == ["b", "a"]


def test_counts_and_json():
    report = SplitReport("train", "a.json", "coco")
    report.add("missing image", "error", "a.jpg is missing", "a.jpg", "removed")
    report.add("rare class", "note", "1 class")
    assert [report.count(severity) for severity in ("error", "warning", "note")] == [1, 0, 1]
    assert report.to_dict()["findings"][0] == {
        "kind": "missing image", "severity": "error", "text": "a.jpg is missing", "image": "a.jpg", "fix": "removed"
    }  # fmt: skip
