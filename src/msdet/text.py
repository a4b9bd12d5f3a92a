"""Names in messages and files: how they are listed, and what becomes of those that UTF-8 cannot write.

Python holds a byte of a name from a system with another encoding as a lone surrogate (PEP 383),
which reaches the same file again but no text file, no terminal and no library. In JSON and YAML it is written as the
escape `\\udcXX`, which their readers turn back into the name (and `os.fsencode` into its bytes); everywhere else as the
same characters, for people.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")


def is_encodable(text: str) -> bool:
    """Whether UTF-8 can write a text."""
    return _SURROGATE.search(text) is None


def printable(text: str) -> str:
    """A text as UTF-8 can write it: what it cannot is escaped."""
    return text if is_encodable(text) else text.encode("utf-8", "backslashreplace").decode()


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON that UTF-8 can write and that reads back to the value."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


@contextlib.contextmanager
def readable_path(path: Path, copy: bool = False) -> Iterator[str]:
    """The path of a file for a library that takes UTF-8 alone: its own, or that of a link to it.

    Args:
        path: of a file that is there, or will be said to be missing.
        copy: a copy instead of a link, for libraries that follow links before they read.
    """
    if is_encodable(str(path)) or not path.exists():
        yield printable(str(path))
        return
    with tempfile.TemporaryDirectory() as folder:
        stand_in = Path(folder) / f"file{printable(path.suffix)}"
        if copy:
            shutil.copyfile(path, stand_in)
        else:
            stand_in.symlink_to(path.absolute())
        yield str(stand_in)


@contextlib.contextmanager
def writable_path(path: Path, is_fine: Callable[[str], object] = is_encodable) -> Iterator[str]:
    """The path that a library which does not take every name writes a file to: its own, or one elsewhere, from where
    the file is moved to its place at the end.

    Args:
        path: of the file.
        is_fine: whether the library takes a path.
    """
    if is_fine(str(path.absolute())):
        yield str(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        stand_in = Path(folder) / f"file{path.suffix}"
        yield str(stand_in)
        if stand_in.exists():
            shutil.move(stand_in, path)


def first_few(names: Iterable[str], shown: int = 5) -> str:
    """The first few names, and how many more there are.

    Args:
        names: any number.
        shown: most names that are listed.
    """
    names = list(names)
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")


def one_line(name: str, longest: int = 40) -> str:
    """A name as a chart can show it: without line breaks, its middle taken out where it is longer than `longest`."""
    name = " ".join(name.split())
    half = (longest - 3) // 2
    return name if len(name) <= longest else f"{name[:half]}...{name[-half:]}"
