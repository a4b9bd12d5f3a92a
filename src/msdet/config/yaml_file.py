"""Reads YAML configuration files into settings that remember file and line, following `base:`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from msdet.errors import UsageError

_NULL = "tag:yaml.org,2002:null"
# A list of pairs in a key lies at 3.
_DEEPEST = 20


@dataclass(frozen=True)
class Setting:
    """One value as somebody wrote it.

    Args:
        name: the key or alias as written.
        raw: text, None or nested lists of text.
        place: where it was written: `configs/yolov3.yaml:12` or `--lr`.
    """

    name: str
    raw: object
    place: str


def config_folder() -> Path:
    """The folder of the recipes: `configs/` of the checkout, or, where the package is installed, its own copy."""
    here = Path(__file__).resolve()
    checkout = here.parents[3] / "configs"
    return checkout if checkout.is_dir() else here.parents[1] / "configs"


def find_config(name: str) -> str:
    """The file that `--config` means: a path, or, where there is no such file, a recipe by its name, with or without
    `configs/` and `.yaml`."""
    path = Path(name)
    if not name or path.exists() or path.parent not in (Path(), Path("configs")):
        return name
    recipe = config_folder() / f"{path.name.removesuffix('.yaml')}.yaml"
    return str(recipe) if recipe.is_file() else name


def read_layers(path: str | Path) -> list[list[Setting]]:
    """Reads a config file and its bases, the farthest base first; a later layer overrides an earlier one.

    Raises:
        UsageError: the file is missing, empty or not YAML, names a key twice, or is its own base.
    """
    layers: list[list[Setting]] = []
    chain: list[Path] = []
    path, named_at = Path(path), ""
    while True:
        if path.resolve() in chain:
            raise UsageError(f"{named_at}: base: {path} leads back to itself; remove one `base:` of the circle")
        chain.append(path.resolve())
        settings = _read_file(path, named_at)
        base = next((setting for setting in settings if setting.name == "base"), None)
        layers.insert(0, [setting for setting in settings if setting is not base])
        if base is None:
            return layers
        if not isinstance(base.raw, str) or not base.raw:
            raise UsageError(f"{base.place}: base takes the name of one YAML file, relative to this file's folder")
        path, named_at = path.parent / base.raw, base.place


def _read_file(path: Path, named_at: str) -> list[Setting]:
    text = _read_text(path, f"{named_at}: base: " if named_at else "")
    node = _compose(text, path)
    if node is None:
        raise UsageError(f"{path}: the file is empty; a config needs at least `model:`, or `base:` and a file name")
    if not isinstance(node, yaml.MappingNode):
        raise UsageError(f"{path}:{_line(node)}: expected lines of `key: value`")
    settings: dict[str, Setting] = {}
    for name_node, value_node in node.value:
        place = f"{path}:{_line(name_node)}"
        if not isinstance(name_node, yaml.ScalarNode):
            raise UsageError(f"{place}: a key must be a plain word")
        name = name_node.value
        if name in settings:
            raise UsageError(f"{place}: {name} was already set at {settings[name].place}; keep one of the two")
        settings[name] = Setting(name, _texts(value_node, place, name), place)
    return list(settings.values())


def _read_text(path: Path, prefix: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{prefix}{path}: no such config file{_neighbours(path)}") from None
    except IsADirectoryError:
        raise UsageError(f"{prefix}{path} is a folder, not a config file{_neighbours(path / 'x')}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{prefix}{path}: not a text file in UTF-8") from None
    except OSError as error:
        raise UsageError(f"{prefix}{path}: cannot be read: {error.strerror}") from None


def _neighbours(path: Path) -> str:
    names = sorted(file.name for file in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    return f"; {path.parent} has {', '.join(names)}" if names else ""


def _compose(text: str, path: Path) -> yaml.Node | None:
    """Parses without building objects. Aliases are refused: they can grow without end; `base:` is there to share."""
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
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
    """A node as text, None or nested lists of text."""
    if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.startswith("tag:yaml.org,2002:python"):
        raise UsageError(f"{place}: {name}: the YAML tag {node.tag} is not allowed here")
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag == _NULL else node.value
    if isinstance(node, yaml.SequenceNode):
        return [_texts(item, place, name) for item in node.value]
    raise UsageError(f"{place}: {name}: takes a value or a list, not nested keys; the keys of a config are flat")


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
