"""Text files of datasets: lists of images, labels, class names."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from pathlib import Path

from msdet.config.sections.data import MAX_CLASSES
from msdet.data.images.file_names import is_image_name
from msdet.errors import UserError

# Class names, one per line: LabelImg and Label Studio write the first, darknet and CVAT the second.
CLASS_FILES = ("classes.txt", "obj.names")


def read_lines(path: Path, with_file_names: bool = False) -> list[str]:
    """Lines of a text file in UTF-8, or in UTF-16 with a byte-order mark as Windows writes it.

    Args:
        path: the file.
        with_file_names: the lines contain file names, which may have bytes that are not UTF-8.

    Raises:
        UserError: it is missing or not a text file.
    """
    try:
        data = path.read_bytes()
        text = _decode(data, with_file_names)
    except FileNotFoundError as error:
        raise UserError(f"annotation file {path} is missing") from error
    except OSError as error:
        raise UserError(f"annotation file {path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"annotation file {path} is not text: byte {error.start} is not {error.encoding.upper()}; save it as UTF-8"
        ) from error
    lines = re.split(r"\r\n?|\n", text)
    # A list joined from several files has several byte-order marks.
    return [line.lstrip("\ufeff") for line in (lines if lines[-1] else lines[:-1])]


def _decode(data: bytes, with_file_names: bool) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    # A zero byte occurs in UTF-16 and in binary data, but in no file name.
    return data.decode("utf-8", "surrogateescape" if with_file_names and b"\0" not in data else "strict")


def class_names_in(folders: Iterable[Path]) -> list[str]:
    """Class names from the first folder that contains one of `CLASS_FILES`; empty if none does.

    Raises:
        UserError: the file has an empty line between names, or contains a class twice.
    """
    path = next((folder / name for folder in folders for name in CLASS_FILES if (folder / name).is_file()), None)
    if path is None:
        return []
    names = [line.strip() for line in read_lines(path)]
    while names and not names[-1]:
        names.pop()
    if len(names) > MAX_CLASSES:
        raise UserError(f"{path} has {len(names)} classes, more than {MAX_CLASSES}")
    for number, name in enumerate(names):
        if not name:
            raise UserError(f"{path}:{number + 1} is empty: the line number of a name is its class number")
        if name in names[:number]:
            raise UserError(f"{path}:{number + 1}: the class {name!r} occurs twice")
    return names


def list_kind(path: Path) -> str:
    """What the lines of a text file contain: "boxes" (after the path of an image), "paths" of images, or "names".

    Raises:
        UserError: the file cannot be read.
    """
    kind = "names"
    for line in read_lines(path, with_file_names=True):
        name, boxes = split_line(line)
        if boxes:
            return "boxes"
        if "/" in name or "\\" in name or is_image_name(name):
            kind = "paths"
    return kind


def split_line(line: str) -> tuple[str, list[str]]:
    """The path, which may contain spaces, and the words of the boxes after it."""
    words = line.split()
    first = len(words)
    while first > 0 and _is_box(words[first - 1]):
        first -= 1
    if first == len(words):
        return line.strip(), []
    rest = line
    for word in reversed(words[first:]):
        rest = rest[: rest.rindex(word)]
    return rest.strip(), words[first:]


def _is_box(word: str) -> bool:
    # A path can contain commas too. Three commas, or a number before the first, make it a (possibly malformed) box.
    head, comma, _ = word.partition(",")
    return bool(comma) and (word.count(",") >= 3 or _is_number(head))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
