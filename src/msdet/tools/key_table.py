"""Prints the keys of all models as Markdown tables; with `--write FILE` between the two marks in that file."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from msdet.config import Config
from msdet.config.key import Key, keys_of, title_of
from msdet.config.model_table import config_class, model_table
from msdet.errors import UserError
from msdet.files import atomic_path

BEGIN, END = "<!-- keys: begin -->", "<!-- keys: end -->"


def all_tables() -> str:
    """Markdown: a section for the keys that all models have, and one for each model."""
    return "\n\n".join(["## All models", _table(keys_of(Config).values()), *map(model_section, model_table())])


def model_section(model: str) -> str:
    """Markdown: the keys that a model has besides those of all, or with another default, meaning or choices.

    Raises:
        UsageError: there is no such model.
    """
    found = config_class(model)
    common = keys_of(Config)
    own = [key for key in keys_of(found).values() if not _is_same(key, common.get(key.name))]
    lines = [f"## {title_of(found)} (`model: {model}`)", _table(own)]
    if found.UNUSED:
        lines.append(
            f"Refused, since this model has no use for them: {', '.join(f'`{name}`' for name in found.UNUSED)}."
        )
    return "\n\n".join(lines)


def _is_same(key: Key, other: Key | None) -> bool:
    return other is not None and all(
        getattr(key, part) == getattr(other, part) for part in ("default", "help", "choices")
    )


def _table(keys: Iterable[Key]) -> str:
    """A line a key, in the groups of `--help`; a group stands where its first key does."""
    groups: dict[str, list[Key]] = {}
    for key in keys:
        groups.setdefault(key.group, []).append(key)
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for group, members in groups.items():
        lines.append(f"| **{group}** | | |")
        lines += map(_line, members)
    return "\n".join(lines)


def _line(key: Key) -> str:
    choices = f" ({', '.join(key.choices)})" if key.choices else ""
    text = f"{key.help}{choices}".replace("|", "\\|")
    return f"| `{key.name}` | {_shown(key.default)} | {text} |"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        text = ", ".join(map(str, value))
        return f"`{text}`" if 0 < len(text) <= 40 else f"`{text[:36]} ...`" if text else ""
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
    parser = argparse.ArgumentParser(prog="msdet keys", description=__doc__)
    parser.add_argument("--model", default="", help="only what this model has of its own")
    parser.add_argument("--write", type=Path, help="file with the marks, for example docs/keys.md")
    args = parser.parse_args(argv)
    table = model_section(args.model) if args.model else all_tables()
    if args.write is None:
        print(table)  # noqa: T201 - what the command is for
        return 0
    text = with_table(args.write.read_text(encoding="utf-8"), table)
    with atomic_path(args.write) as beside:
        beside.write_text(text, encoding="utf-8")
    return 0
