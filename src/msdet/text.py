"""Names in messages and files: how they are listed, and how names that are not valid UTF-8 are written.

Python represents each byte of a file name that is not UTF-8 by a lone surrogate (PEP 383). Such a name opens the
file, but text files, terminals and most libraries cannot encode it. JSON and YAML files contain it as the escape
`\\udcXX`, which their readers turn back into the name; messages contain the same characters for people to read.
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
    """Whether a text can be encoded as UTF-8."""
    return _SURROGATE.search(text) is None


def printable(text: str) -> str:
    """The text with the characters escaped that UTF-8 cannot encode."""
    return text if is_encodable(text) else text.encode("utf-8", "backslashreplace").decode()


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON that can be encoded as UTF-8 and reads back to the same value."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


@contextlib.contextmanager
def readable_path(path: Path, copy: bool = False) -> Iterator[str]:
    """The path of a file for a library that accepts only UTF-8 paths: the path itself, or a temporary link to it.

    Args:
        path: the file; if it does not exist, the library is left to report that.
        copy: copy the file instead of linking it, for libraries that resolve links before they read.
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
def writable_path(path: Path, accepts: Callable[[str], object] = is_encodable) -> Iterator[str]:
    """The path to write a file to with a library that does not accept every path: the path itself, or a temporary one
    from which the file is moved to `path` at the end.

    Args:
        path: the file to write.
        accepts: whether the library accepts a path.
    """
    if accepts(str(path.absolute())):
        yield str(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        stand_in = Path(folder) / f"file{path.suffix}"
        yield str(stand_in)
        if stand_in.exists():
            shutil.move(stand_in, path)


def first_few(names: Iterable[str], shown: int = 5) -> str:
    """The first few names, and the number of the others: `a, b and 7 more`.

    Args:
        names: any number.
        shown: maximum number of names to list.
    """
    names = list(names)
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")


def one_line(name: str, longest: int = 40) -> str:
    """A name for charts: without line breaks, and shortened in the middle if longer than `longest` characters."""
    name = " ".join(name.split())
    half = (longest - 3) // 2
    return name if len(name) <= longest else f"{name[:half]}...{name[-half:]}"
