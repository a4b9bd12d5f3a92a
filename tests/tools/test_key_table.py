"""The table of keys in the documentation matches the code."""

from pathlib import Path

import pytest

from msdet.config.key import keys_of
from msdet.config.model_table import config_class, model_table
from msdet.errors import UserError
from msdet.tools.key_table import BEGIN, END, all_tables, main, model_section, with_table

KEYS = Path(__file__).resolve().parents[2] / "docs" / "reference" / "keys.md"


def test_documentation_is_up_to_date():
    text = KEYS.read_text(encoding="utf-8")
    assert with_table(text, all_tables()) == text, "run msdet keys --write docs/reference/keys.md"


@pytest.mark.parametrize("model", model_table())
def test_every_key_of_a_model_has_a_row(model):
    """With the model's default: in the section of the model, or in the common one."""
    common, own = all_tables().split("\n\n## ")[0], model_section(model)
    found = config_class(model)
    for key in keys_of(found).values():
        lines = [line for line in (own + common).splitlines() if line.startswith(f"| `{key.name}` |")]
        assert lines and key.help.replace("|", "\\|") in lines[0], key.name
        if isinstance(key.default, int | float):
            assert lines[0].startswith(f"| `{key.name}` | `{key.default}` |")
    for name in found.UNUSED:
        assert f"`{name}`" in own.splitlines()[-1]


def test_groups_have_one_heading():
    for section in all_tables().split("\n## "):
        headings = [line for line in section.splitlines() if line.startswith("| **")]
        assert len(headings) == len(set(headings))


def test_only_the_text_between_the_markers_is_replaced(tmp_path):
    path = tmp_path / "x.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert main(["--write", str(path)]) == 0
    text = path.read_text()
    assert (
        text.startswith(f"before\n{BEGIN}\n## All models\n\n| key |")
        and text.endswith(f"\n{END}\nafter\n")
        and "old\n" not in text
    )


def test_missing_markers_are_an_error():
    with pytest.raises(UserError, match="lacks the markers"):
        with_table("text", "table")
