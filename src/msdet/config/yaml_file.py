"""Reads YAML config files, following `base:`, into settings with their file and line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from msdet.errors import UsageError

_NULL = "tag:yaml.org,2002:null"
# Maximum nesting; a list of pairs has depth 3.
_MAX_DEPTH = 20


@dataclass(frozen=True)
class Setting:
    """A value as it was written.

    Attributes:
        name: the key or its old name.
        raw: text, None or nested lists of text.
        place: file and line, or flag: `configs/yolov3.yaml:12`, `--lr`.
    """

    name: str
    raw: object
    place: str


def config_folder() -> Path:
    """The folder of the config files: `configs/` of the checkout, or the copy inside the installed package."""
    here = Path(__file__).resolve()
    checkout = here.parents[3] / "configs"
    return checkout if checkout.is_dir() else here.parents[1] / "configs"


def find_config(name: str) -> str:
    """The path of a config file given as a path, or by its name in configs/ (with or without `configs/` and
    `.yaml`)."""
    path = Path(name)
    if not name or path.exists() or path.parent not in (Path(), Path("configs")):
        return name
    recipe = config_folder() / f"{path.name.removesuffix('.yaml')}.yaml"
    return str(recipe) if recipe.is_file() else name


def read_layers(path: str | Path) -> list[list[Setting]]:
    """Reads a config file and its bases, outermost base first; a later layer overrides an earlier one.

    Raises:
        UsageError: a file is missing, empty or not YAML, sets a key twice, or is its own base.
    """
    layers: list[list[Setting]] = []
    chain: list[Path] = []
    path, named_at = Path(path), ""
    while True:
        if path.resolve() in chain:
            raise UsageError(f"{named_at}: base: {path} is its own base; remove one `base:` of the cycle")
        chain.append(path.resolve())
        settings = _read_file(path, named_at)
        base = next((setting for setting in settings if setting.name == "base"), None)
        layers.insert(0, [setting for setting in settings if setting is not base])
        if base is None:
            return layers
        if not isinstance(base.raw, str) or not base.raw:
            raise UsageError(f"{base.place}: base takes the path of one YAML file, relative to the folder of this file")
        path, named_at = path.parent / base.raw, base.place


def _read_file(path: Path, named_at: str) -> list[Setting]:
    text = _read_text(path, f"{named_at}: base: " if named_at else "")
    node = _compose(text, path)
    if node is None:
        raise UsageError(f"{path}: the file is empty; a config file needs `model:` or `base:`")
    if not isinstance(node, yaml.MappingNode):
        raise UsageError(f"{path}:{_line(node)}: expected lines of `key: value`")
    settings: dict[str, Setting] = {}
    for name_node, value_node in node.value:
        place = f"{path}:{_line(name_node)}"
        if not isinstance(name_node, yaml.ScalarNode):
            raise UsageError(f"{place}: a key must be a scalar")
        name = name_node.value
        if name in settings:
            raise UsageError(f"{place}: {name} was already set at {settings[name].place}; keep one of the two")
        settings[name] = Setting(name, _texts(value_node, place, name), place)
    return list(settings.values())


def _read_text(path: Path, prefix: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{prefix}{path}: no such config file{_available(path.parent)}") from None
    except IsADirectoryError:
        raise UsageError(f"{prefix}{path} is a folder, not a config file{_available(path)}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{prefix}{path}: not a UTF-8 text file") from None
    except OSError as error:
        raise UsageError(f"{prefix}{path}: cannot be read: {error.strerror}") from None


def _available(folder: Path) -> str:
    names = sorted(file.name for file in folder.glob("*.yaml")) if folder.is_dir() else []
    return f"; {folder} has {', '.join(names)}" if names else ""


def _compose(text: str, path: Path) -> yaml.Node | None:
    """Parses YAML without building objects. Aliases are rejected, because they can expand exponentially."""
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH:
                raise UsageError(f"{path}:{event.start_mark.line + 1}: nested too deeply for a config file")
            if isinstance(event, yaml.AliasEvent):
                raise UsageError(
                    f"{path}:{event.start_mark.line + 1}: YAML aliases (*name) are not supported; use `base:`"
                )
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise UsageError(f"{path}:{mark.line + 1 if mark else 1}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from None


def _texts(node: yaml.Node, place: str, name: str) -> object:
    """Converts a node to text, None or nested lists of text."""
    if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.startswith("tag:yaml.org,2002:python"):
        raise UsageError(f"{place}: {name}: the YAML tag {node.tag} is not allowed here")
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag == _NULL else node.value
    if isinstance(node, yaml.SequenceNode):
        return [_texts(item, place, name) for item in node.value]
    raise UsageError(f"{place}: {name}: takes a value or a list, not nested keys; config files are flat")


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
