"""Rows, goals and tables of measurements."""

import pytest

from benchmarks.report import SHARE, SPEEDUP, VALUE, Goal, Options, Result, Row, markdown_table, plain_table
from msdet.errors import UsageError


def test_less_time_and_more_images_per_second_are_faster():
    assert Row("a", "ms", "ours", 2.0, "theirs", 5.0).speedup == 2.5
    assert Row("a", "images/s", "ours", 5.0, "theirs", 2.0).speedup == 2.5
    assert Row("a", "ms", "ours", 2.0).speedup is None


@pytest.mark.parametrize(
    ("goal", "text"),
    [
        (Goal(SPEEDUP, at_least=2), ">= 2x: 2.5, met"),
        (Goal(SPEEDUP, at_least=3), ">= 3x: 2.5, MISSED"),
        (Goal(SHARE, at_most=0.5), "<= 0.5 of its time: 0.4, met"),
        (Goal(SHARE, at_most=0.3), "<= 0.3 of its time: 0.4, MISSED"),
        (Goal(VALUE, at_most=2.5), "<= 2.5 ms: 2, met"),
        (Goal(SPEEDUP, at_least=50, reason="not here"), ">= 50x: 2.5, not here"),
    ],
)
def test_goals_are_shown_with_the_measured_value(goal, text):
    assert list(Row("a", "ms", "ours", 2.0, "theirs", 5.0, (goal,)).goal_texts()) == [text]


def test_a_row_is_restored_from_its_fields():
    row = Row("a", "ms", "ours", 2.0, "theirs", 5.0, (Goal(SPEEDUP, at_least=2), Goal(VALUE, at_most=1)), "note")
    fields = row.to_dict()
    assert fields["speedup"] == 2.5
    assert [goal["met"] for goal in fields["goals"]] == [True, False]
    assert Row.from_dict(fields) == row


def test_results_keep_all_samples_and_compare_medians():
    result = Result()
    medians = result.keep("a", {"ours": [0.003, 0.001, 0.002], "theirs": [0.004]}, 1000)
    assert medians == {"ours": 2.0, "theirs": 4.0}
    assert result.samples == {"a": {"ours": [3.0, 1.0, 2.0], "theirs": [4.0]}}
    result.compare("a", "ms", medians, "ours", "theirs")
    result.compare("a", "ms", medians, "ours", "PyTorch")  # was not measured
    assert [(row.value, row.baseline_value) for row in result.rows] == [(2.0, 4.0)]


def test_tables():
    rows = [Row("a | b", "ms", "ours", 123.4, "theirs", 12.34), Row("c", "s", "ours", 1.234, note="seen")]
    plain = plain_table(rows).splitlines()
    assert plain[1].split() == ["a", "|", "b", "ours", "123", "ms", "theirs", "12.3", "ms", "0.10"]
    assert plain[2].split() == ["c", "ours", "1.23", "s", "seen"]
    markdown = markdown_table(rows).splitlines()
    assert markdown[2] == "| a / b | ours | 123 ms | theirs | 12.3 ms | 0.10 |  |"
    assert {line.count("|") for line in markdown} == {8}


def test_options(tmp_path, monkeypatch):
    assert (Options().count(7), Options(quick=True).count(7), Options(rounds=3, quick=True).count(7)) == (7, 2, 3)
    assert Options(data_dir=tmp_path).dataset() == tmp_path
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    with pytest.raises(UsageError, match="coco_mini is not a folder.*--data_dir"):
        Options().dataset()
