"""The report of a check as text and JSON."""

import json

import pytest

from msdet.data.validation.findings import SplitReport
from msdet.tools.check.report import as_text, format_value, worst_severity, write_json


@pytest.fixture
def report():
    report = SplitReport("train", "a.json", "coco", statistics={"images": 3, "median": [1.5, 2.0]})
    for number in range(7):
        report.add("missing image", "error", f"{number}.jpg is missing")
    report.add("rare class", "note", "1 classes are rare")
    return report


def test_text_lists_the_first_findings_of_each_kind(report):
    lines = as_text([report, SplitReport("val", "b", "")], 1.25).splitlines()
    assert lines[:4] == ["train: a.json (coco)", "  images: 3", "  median: 1.5, 2", "  [error] missing image: 7"]
    assert lines[4:10] == [
        *(f"    {number}.jpg is missing" for number in range(5)), "    ... and 2 more (--json lists all)"
    ]  # fmt: skip
    assert lines[-2:] == ["val: b", "7 errors, 0 warnings, 1 notes; 1.2 s"]


def test_json_contains_all_findings(report, tmp_path):
    write_json([report], tmp_path / "out.json")
    (split,) = json.loads((tmp_path / "out.json").read_text())["splits"]
    assert len(split["findings"]) == 8 and split["statistics"]["images"] == 3


@pytest.mark.parametrize(
    ("value", "text"), [(3, "3"), ([1.0, 2.5], "1, 2.5"), ([[10.0, 20.0], [90, 40.5]], "10 x 20, 90 x 40.5")]
)
def test_format_value(value, text):
    assert format_value(value) == text


def test_worst_severity(report):
    assert worst_severity(report.findings[::-1]) == "error" and worst_severity(report.findings[-1:]) == "note"
