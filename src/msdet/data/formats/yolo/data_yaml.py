"""Reads the data.yaml of YOLO datasets: image folders and class names."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from msdet.config.sections.data import MAX_CLASSES
from msdet.errors import UserError

logger = logging.getLogger(__name__)

SPLIT_NAMES = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
# Maximum length of a value in messages.
_SHOWN = 60


class _TextLoader(yaml.BaseLoader):
    """Keeps every scalar as a string; tags for Python objects are rejected."""


def _refuse(loader: yaml.BaseLoader, suffix: str, node: yaml.Node) -> None:
    raise yaml.constructor.ConstructorError(None, None, f"Python object {suffix!r} is not allowed", node.start_mark)


_TextLoader.add_multi_constructor("tag:yaml.org,2002:python/", _refuse)


@dataclass(frozen=True)
class DataYaml:
    """The parsed content of a data.yaml.

    Attributes:
        path: of the file.
        names: class names in label order; empty if it has none.
        splits: "train", "val", "test" -> image folders or lists of images, for the splits that it contains.
        key_points: number of key point values after the box in a label line.
    """

    path: Path
    names: tuple[str, ...]
    splits: Mapping[str, tuple[Path, ...]]
    key_points: int = 0


def find_yaml(root: Path) -> Path | None:
    """The data.yaml of a folder, or its only YAML file with class names and a split; None if there is none."""
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        if (root / name).is_file():
            return root / name
    found = [path for path in sorted(root.glob("*.y*ml")) if _names_split(path)]
    return found[0] if len(found) == 1 else None


def _names_split(path: Path) -> bool:
    try:
        content = _load(path)
    except (OSError, UserError):
        return False
    return "names" in content and ("train" in content or "val" in content)


def read_yaml(path: Path) -> DataYaml:
    """Reads a data.yaml.

    Image folders are relative to `path` (itself absolute or relative to the file) or to the folder of the file; exports
    that write `../train/images` for `train/images` are supported. Class names stay strings: the class `no` is "no", not
    False.

    Raises:
        UserError: it cannot be read or is not a data.yaml.
    """
    try:
        content = _load(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    names = _class_names(path, content)
    splits = {}
    for split, keys in SPLIT_NAMES.items():
        key = next((key for key in keys if not _is_empty(content.get(key))), None)
        if key is not None:
            entries = content[key] if isinstance(content[key], list) else [content[key]]
            base = _string(path, "path", content.get("path"))
            splits[split] = tuple(_resolve(path, base, _string(path, key, entry)) for entry in entries)
    return DataYaml(path, names, splits, _key_points(path, content.get("kpt_shape")))


def _load(path: Path) -> dict[str, Any]:
    """The file's mapping with all scalars as strings.

    YAML's conversions (numbers, dates, no as False) are disabled, and so are merge keys, which can grow without bound.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), _TextLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}:{line}: not valid YAML ({error.problem})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not YAML: byte {error.start} is not UTF-8; save it as UTF-8") from error
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        raise UserError(f"{path} is not valid YAML") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a data.yaml: it should have the keys train, val and names")
    return content


def _is_empty(value: Any) -> bool:
    return value is None or value == [] or (isinstance(value, str) and value.lower() in ("", "~", "null"))


def _shown(value: Any) -> str:
    """A value for a message. Nested values are not shown: aliases can expand them to terabytes of text."""
    if isinstance(value, str):
        return repr(value[:_SHOWN])
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return f"[{', '.join(value)[:_SHOWN]}]"
    return "a list" if isinstance(value, list) else "a mapping"


def _string(path: Path, key: str, value: Any) -> str:
    if _is_empty(value):
        return ""
    if not isinstance(value, str):
        raise UserError(f"{path}: {key} is {_shown(value)}, expected a string")
    return value


def _class_names(path: Path, content: Mapping[str, Any]) -> tuple[str, ...]:
    names, count = content.get("names"), _count(path, content.get("nc"))
    if isinstance(names, dict):
        if sorted(map(_integer, names), key=str) != sorted(range(len(names)), key=str):
            shown = ", ".join(str(key)[:_SHOWN] for key in list(names)[:10])
            raise UserError(f"{path}: names has the numbers {shown}, not 0 to {len(names) - 1}")
        names = [names[key] for key in sorted(names, key=int)]
    if _is_empty(names):
        return tuple(str(number) for number in range(count or 0))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: names is not a list of class names")
    if len(names) > MAX_CLASSES:
        raise UserError(f"{path}: names has {len(names)} classes, more than {MAX_CLASSES}")
    bad = next((name for name, times in Counter(names).items() if times > 1 or not name.strip()), None)
    if bad is not None:
        what = f"the class {bad!r} twice" if bad.strip() else "a class without a name"
        raise UserError(f"{path}: names has {what}")
    if count is not None and count != len(names):
        raise UserError(f"{path}: nc is {count}, but names has {len(names)} classes")
    return tuple(names)


def _count(path: Path, value: Any) -> int | None:
    if _is_empty(value):
        return None
    count = _integer(value)
    if count is None or count > MAX_CLASSES:
        raise UserError(f"{path}: nc is {_shown(value)}, expected a number of classes up to {MAX_CLASSES}")
    return count


def _integer(text: Any) -> int | None:
    """The value of a string of decimal digits; None for anything else."""
    return int(text) if isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) < 19 else None


def _key_points(path: Path, shape: Any) -> int:
    """Number of values of all key points of an object, from `kpt_shape: [points, 2 or 3]`."""
    if _is_empty(shape):
        return 0
    numbers = [_integer(number) for number in shape] if isinstance(shape, list) else []
    points, values = numbers if len(numbers) == 2 else (None, None)
    if not points or values not in (2, 3) or points > 1000:
        raise UserError(f"{path}: kpt_shape is {_shown(shape)}, expected [number of points, 2 or 3]")
    return points * values


def _resolve(path: Path, base: str, entry: str) -> Path:
    """The folder or list that an entry of the file `path` refers to; `base` is its key `path`."""
    here, entry, base = path.parent, entry.replace("\\", "/"), base.replace("\\", "/")
    bases = [here / base, here, Path(base)] if base else [here]
    candidates = [Path(os.path.normpath(folder / entry)) for folder in bases]
    while entry.startswith("../"):
        entry = entry[3:]
        candidates.append(here / entry)
    # An absolute path on the computer that wrote the file: its last parts may exist here.
    parts = [part for part in entry.split("/") if part not in ("", ".", "..")]
    candidates += [here.joinpath(*parts[start:]) for start in range(1, len(parts))]
    found = next((candidate for candidate in candidates if candidate.exists()), None)
    if found is not None and candidates.index(found) >= len(candidates) - len(parts) + 1:
        logger.warning("%s: %s does not exist, using %s instead", path, candidates[0], found)
    return found or candidates[0]
