"""The table of keys in the documentation is the one the code has."""

from pathlib import Path

import pytest

from src.config_values import keys_of
from src.errors import UserError
from src.recipe import config_class
from src.tools.key_table import BEGIN, END, key_table, main, with_table

KEYS = Path(__file__).resolve().parents[2] / "docs" / "keys.md"


def test_the_documentation_is_up_to_date():
    text = KEYS.read_text(encoding="utf-8")
    assert with_table(text, key_table("yolov3")) == text, "run python -m src.tools.key_table --write docs/keys.md"


def test_every_key_has_a_line():
    table = key_table("yolov3")
    for name in keys_of(config_class("yolov3")):
        assert f"| `{name}` |" in table


def test_only_what_stands_between_the_marks_is_replaced(tmp_path):
    path = tmp_path / "x.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert main(["--write", str(path)]) == 0
    text = path.read_text()
    assert text.startswith(f"before\n{BEGIN}\n| key |") and text.endswith(f"|\n{END}\nafter\n") and "old\n" not in text


def test_a_file_without_marks_is_named():
    with pytest.raises(UserError, match="lacks the marks"):
        with_table("text", "table")
