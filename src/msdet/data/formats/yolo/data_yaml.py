"""The data.yaml of YOLO data sets: folders of images, and names of classes."""

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
# What a message shows of a value.
_SHOWN = 60


class _TextLoader(yaml.BaseLoader):
    """Every scalar is the text that stands there; what asks for a Python object is refused."""


def _refuse(loader: yaml.BaseLoader, suffix: str, node: yaml.Node) -> None:
    raise yaml.constructor.ConstructorError(None, None, f"it asks for the Python object {suffix!r}", node.start_mark)


_TextLoader.add_multi_constructor("tag:yaml.org,2002:python/", _refuse)


@dataclass(frozen=True)
class DataYaml:
    """What a data.yaml says.

    Attributes:
        path: of the file.
        names: of the classes, in label order; empty if it names none.
        splits: "train", "val", "test" -> folders of images, or lists of their names, as far as they are there.
        key_points: numbers that follow the box in a line of labels.
    """

    path: Path
    names: tuple[str, ...]
    splits: Mapping[str, tuple[Path, ...]]
    key_points: int = 0


def find_yaml(root: Path) -> Path | None:
    """The data.yaml of a folder: that name, or the only YAML file of it that names a split."""
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

    A folder is looked for from the file's `path` (as it is, or below the file's folder), and from the file's folder;
    exports that write `../train/images` for `train/images` are understood. Names are taken as they are written: a class
    `no` is called no, not False.

    Raises:
        UserError: it cannot be read, or is no such file.
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
            told = content[key] if isinstance(content[key], list) else [content[key]]
            base = _text(path, "path", content.get("path"))
            splits[split] = tuple(_resolve(path, base, _text(path, key, entry)) for entry in told)
    return DataYaml(path, names, splits, _key_points(path, content.get("kpt_shape")))


def _load(path: Path) -> dict[str, Any]:
    """The file's mapping, in which every scalar is the text that stands there.

    What else YAML makes of texts (numbers, dates, no as False) is not wanted, nor its merged mappings, which can grow
    without bound.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), _TextLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}:{line}: no YAML ({error.problem})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no YAML text: byte {error.start} is not UTF-8; save it as UTF-8") from error
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        raise UserError(f"{path} is no YAML text") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is no data.yaml: it should name train, val and names")
    return content


def _is_empty(value: Any) -> bool:
    return value is None or value == [] or (isinstance(value, str) and value.lower() in ("", "~", "null"))


def _shown(value: Any) -> str:
    """A value for a message. Of a list of lists aliases can make terabytes of text: none of it is shown."""
    if isinstance(value, str):
        return repr(value[:_SHOWN])
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return f"[{', '.join(value)[:_SHOWN]}]"
    return "a list" if isinstance(value, list) else "a mapping"


def _text(path: Path, key: str, value: Any) -> str:
    if _is_empty(value):
        return ""
    if not isinstance(value, str):
        raise UserError(f"{path}: {key} is {_shown(value)}, a text is due")
    return value


def _class_names(path: Path, content: Mapping[str, Any]) -> tuple[str, ...]:
    names, count = content.get("names"), _count(path, content.get("nc"))
    if isinstance(names, dict):
        if sorted(map(_whole, names), key=str) != sorted(range(len(names)), key=str):
            shown = ", ".join(str(key)[:_SHOWN] for key in list(names)[:10])
            raise UserError(f"{path}: names has the numbers {shown}, not 0 to {len(names) - 1}")
        names = [names[key] for key in sorted(names, key=int)]
    if _is_empty(names):
        return tuple(str(number) for number in range(count or 0))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: names is no list of class names")
    if len(names) > MAX_CLASSES:
        raise UserError(f"{path}: names has {len(names)} classes, more than {MAX_CLASSES}")
    twice = next((name for name, times in Counter(names).items() if times > 1 or not name.strip()), None)
    if twice is not None:
        what = f"the class {twice!r} twice" if twice.strip() else "a class without a name"
        raise UserError(f"{path}: names has {what}")
    if count is not None and count != len(names):
        raise UserError(f"{path}: nc is {count}, but names has {len(names)} classes")
    return tuple(names)


def _count(path: Path, told: Any) -> int | None:
    if _is_empty(told):
        return None
    count = _whole(told)
    if count is None or count > MAX_CLASSES:
        raise UserError(f"{path}: nc is {_shown(told)}, a number of classes up to {MAX_CLASSES} is due")
    return count


def _whole(text: Any) -> int | None:
    """A whole number from 0 on, as it is written; None for anything else."""
    return int(text) if isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) < 19 else None


def _key_points(path: Path, shape: Any) -> int:
    """Numbers of all key points of an object, by `kpt_shape: [points, 2 or 3]`."""
    if _is_empty(shape):
        return 0
    sides = [_whole(side) for side in shape] if isinstance(shape, list) else []
    points, values = sides if len(sides) == 2 else (None, None)
    if not points or values not in (2, 3) or points > 1000:
        raise UserError(f"{path}: kpt_shape is {_shown(shape)}, [number of points, 2 or 3] is due")
    return points * values


def _resolve(path: Path, base: str, told: str) -> Path:
    here, told, base = path.parent, told.replace("\\", "/"), base.replace("\\", "/")
    bases = [here / base, here, Path(base)] if base else [here]
    candidates = [Path(os.path.normpath(folder / told)) for folder in bases]
    while told.startswith("../"):
        told = told[3:]
        candidates.append(here / told)
    # A path of the computer that wrote the file: its end may be here.
    parts = [part for part in told.split("/") if part not in ("", ".", "..")]
    candidates += [here.joinpath(*parts[start:]) for start in range(1, len(parts))]
    found = next((candidate for candidate in candidates if candidate.exists()), None)
    if found is not None and candidates.index(found) >= len(candidates) - len(parts) + 1:
        logger.warning("%s: %s does not exist, %s is taken in its place", path, candidates[0], found)
    return found or candidates[0]
