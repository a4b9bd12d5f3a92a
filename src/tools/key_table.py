"""Prints the keys of a model as a Markdown table; with `--write FILE` puts it between the two marks in that file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from src.common.files import atomic_path
from src.config_values import keys_of
from src.errors import UserError, run_command
from src.recipe import config_class

BEGIN, END = "<!-- keys: begin -->", "<!-- keys: end -->"


def key_table(model: str) -> str:
    """Markdown: a line a key, in the groups of `--help`.

    Raises:
        UsageError: there is no such model.
    """
    lines = ["| key | default | meaning |", "|---|---|---|"]
    group = None
    # The model's own keys stand first in `--help`; here they come last, behind those that all models share.
    keys = list(keys_of(config_class(model)).values())
    for key in keys:
        if key.group != group:
            group = key.group
            lines.append(f"| **{group}** | | |")
        text = key.help.replace("|", "\\|")
        choices = f" ({', '.join(key.choices)})" if key.choices else ""
        lines.append(f"| `{key.name}` | {_shown(key.default)} | {text}{choices} |")
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        text = ", ".join(map(str, value))
        return f"`{text}`" if len(text) <= 40 else f"`{text[:36]} ...`"
    return f"`{value}`" if value != "" else ""


def with_table(text: str, table: str) -> str:
    """A text with the table between its marks.

    Raises:
        UserError: a mark is missing.
    """
    if BEGIN not in text or END not in text:
        raise UserError(f"the file lacks the marks {BEGIN} and {END}")
    return f"{text[: text.index(BEGIN)]}{BEGIN}\n{table}\n{text[text.index(END) :]}"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m src.tools.key_table", description=__doc__)
    parser.add_argument("--model", default="yolov3")
    parser.add_argument("--write", type=Path, help="file with the marks, for example docs/keys.md")
    args = parser.parse_args(argv)
    table = key_table(args.model)
    if args.write is None:
        print(table)  # noqa: T201 - what the command is for
        return 0
    text = with_table(args.write.read_text(encoding="utf-8"), table)
    with atomic_path(args.write) as beside:
        beside.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
