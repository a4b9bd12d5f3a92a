"""Prints the keys of all models as Markdown tables; `--write FILE` writes them between two markers in that file."""

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
    """Markdown: a section for the common keys, and one for each model."""
    return "\n\n".join(["## All models", _table(keys_of(Config).values()), *map(model_section, model_table())])


def model_section(model: str) -> str:
    """Markdown: the keys of a model that are not common, or differ in default, meaning or choices.

    Raises:
        UsageError: unknown model.
    """
    found = config_class(model)
    common = keys_of(Config)
    own = [key for key in keys_of(found).values() if not _is_same(key, common.get(key.name))]
    lines = [f"## {title_of(found)} (`model: {model}`)", _table(own)]
    if found.UNUSED:
        lines.append(
            f"Rejected, because this model does not use them: {', '.join(f'`{name}`' for name in found.UNUSED)}."
        )
    return "\n\n".join(lines)


def _is_same(key: Key, other: Key | None) -> bool:
    return other is not None and all(
        getattr(key, part) == getattr(other, part) for part in ("default", "help", "choices")
    )


def _table(keys: Iterable[Key]) -> str:
    """One row per key, grouped as in `--help`; a group is placed where its first key is."""
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
    """Replaces the text between the markers by the table.

    Raises:
        UserError: a marker is missing.
    """
    if BEGIN not in text or END not in text:
        raise UserError(f"the file lacks the markers {BEGIN} and {END}")
    return f"{text[: text.index(BEGIN)]}{BEGIN}\n{table}\n{text[text.index(END) :]}"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="msdet keys", description=__doc__)
    parser.add_argument("--model", default="", help="only the keys of this model")
    parser.add_argument("--write", type=Path, help="file with the markers, for example docs/reference/keys.md")
    args = parser.parse_args(argv)
    table = model_section(args.model) if args.model else all_tables()
    if args.write is None:
        print(table)  # noqa: T201 - output of the command
        return 0
    text = with_table(args.write.read_text(encoding="utf-8"), table)
    with atomic_path(args.write) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return 0
