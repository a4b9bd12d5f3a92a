"""Pages of the documentation and the code blocks in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = tuple(sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "README_CN.md"]))
# A block below such a comment cannot be run in a test; the comment gives the reason.
_SKIPPED = re.compile(r"<!-- not run: (.+) -->")
_FENCE = re.compile(r"^( *)(```+)\s*(\w*)")


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        page: file.
        line: number of its first line of code, from 1.
        language: `bash`, `python`, `yaml`, `text`, ...
        code: without the indentation of the block.
        skipped: why it is not run; empty: it is.
    """

    page: Path
    line: int
    language: str
    code: str
    skipped: str = ""

    def commands(self) -> Iterator[list[str]]:
        """The words of each command of a bash block, without comments."""
        for line in self.code.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def name_of(page: Path) -> str:
    """The path of a page in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> list[Block]:
    """All code blocks of a page, in order."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    number, above = 0, ""
    while number < len(lines):
        line = lines[number]
        if fence := _FENCE.match(line):
            indent, marks, language = fence.groups()
            end = next(i for i in range(number + 1, len(lines)) if lines[i].strip() == marks)
            code = "\n".join(text.removeprefix(indent) for text in lines[number + 1 : end])
            reason = _SKIPPED.fullmatch(above.strip())
            found.append(Block(page, number + 2, language, code, reason[1] if reason else ""))
            number = end
        if line.strip():
            above = line
        number += 1
    return found
