"""Typed configuration keys: how a key is declared, and how text is converted to its value.

Values from a YAML file or the command line are text, or nested lists of text; the type of the key determines the
conversion. So `no` can be a class name, `1e-3` is a number and `training_shape: 416` a string, wherever they are set.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

# The commands that read a dataset, and those that load training samples.
DATA_COMMANDS = ("train", "eval", "test", "postprocess", "check", "browse", "create_data", "compare")
TRAINING_COMMANDS = ("train", "check", "browse", "create_data")
# As ADVANCED_IN of a section: only `--help all` explains its keys.
ALL_COMMANDS = ("*",)

# Words for an unset value.
NONE_WORDS = ("", "None", "none", "null", "~")
# The YAML parser rejects the surrogates by which Python represents bytes that are not UTF-8; private characters replace
# them while it runs.
_STAND_INS = {code: 0x100000 + code for code in range(0xDC80, 0xDD00)}
_SURROGATES = {stand_in: code for code, stand_in in _STAND_INS.items()}


@dataclass(frozen=True)
class Key:
    """A configuration key: name, type, default, meaning and accepted values; see `key` for the other attributes.

    Attributes:
        group: title of its section.
        commands: commands with this flag; empty: all. A YAML file may contain the keys of every command.
        advanced_in: commands whose `--help` only lists it; `--help all` explains it.
    """

    name: str
    type: Any
    default: object
    help: str
    group: str = ""
    commands: tuple[str, ...] = ()
    advanced_in: tuple[str, ...] = ()
    choices: tuple[str, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    affects_training: bool = True
    path: bool = False
    square: bool = False
    means_default: tuple[str, ...] = ()

    def convert(self, raw: object) -> object:
        """Converts text, lists of text or an already typed value to a value of this key.

        Raises:
            ValueError: the value is not accepted; the message is "takes ...".
        """
        if _is_word(raw, self.means_default):
            return self.default
        if _is_optional(self.type) and _is_word(raw, NONE_WORDS):
            return None
        if self.type is str and (raw is None or (self.path and _is_word(raw, ("None", "null")))):
            return ""
        try:
            value = _typed(self._nest(raw), self.type)
        except ValueError:
            raise ValueError(self.expected()) from None
        return self._check(value)

    def serves(self, command: str) -> bool:
        """Whether a command has the key as a flag."""
        return not self.commands or command in self.commands

    def is_advanced(self, command: str) -> bool:
        """Whether `--help` of a command only lists it."""
        return command in self.advanced_in or self.advanced_in == ALL_COMMANDS

    def expected(self) -> str:
        """The accepted values in words, e.g. `takes a number from 0 to 1`."""
        if self.choices:
            return f"takes one of {', '.join(map(repr, self.choices))}"
        return f"takes {_describe(self.type)}{self._range()}"

    def _range(self) -> str:
        if self.above is not None:
            return f" above {self.above:g}" + (f", at most {self.maximum:g}" if self.maximum is not None else "")
        if self.minimum is not None and self.maximum is not None:
            return f" from {self.minimum:g} to {self.maximum:g}"
        if self.minimum is not None:
            return f", at least {self.minimum:g}"
        return f", at most {self.maximum:g}" if self.maximum is not None else ""

    def _nest(self, raw: object) -> object:
        """Converts a list written as text, or a flat list of pairs, to the nesting of the type."""
        if not _is_sequence(self.type):
            return raw
        items = _split_list(raw) if isinstance(raw, str) else raw
        if not isinstance(items, list | tuple):
            items = [items]
        if not _is_sequence(_element_type(self.type)) or any(isinstance(item, list | tuple) for item in items):
            return items
        if self.square:
            return [(item, item) for item in items]
        if len(items) % 2:
            raise ValueError("an odd number of values cannot form pairs")
        return list(zip(items[::2], items[1::2], strict=True))

    def _check(self, value: object) -> object:
        if self.choices:
            canonical = {choice.lower(): choice for choice in self.choices}
            if str(value).lower() not in canonical:
                raise ValueError(self.expected())
            return canonical[str(value).lower()]
        for number in _numbers(value):
            too_low = self.minimum is not None and number < self.minimum
            too_low = too_low or (self.above is not None and number <= self.above)
            if too_low or (self.maximum is not None and number > self.maximum):
                raise ValueError(self.expected())
        if self.path and isinstance(value, str) and value.startswith("~"):
            # The shell expands `--data_dir ~/coco`, but neither `--data_dir=~/coco` nor a path in a YAML file.
            return str(Path(value).expanduser())
        return value


def key(default: object, help: str, **accepts: object) -> Any:
    """Declares a field of a configuration dataclass.

    Args:
        default: the default value; sequences as tuples.
        help: the meaning in one line, with the unit if it has one.
        accepts: `choices` (tuple of str), `minimum`, `maximum`, `above` (exclusive minimum; all three apply to every
            number of a list), `affects_training` (False if the trained weights do not depend on the key), `path` (a
            leading ~ is expanded), `square` (in a list of pairs, a single number n means (n, n)), `means_default`
            (texts that mean the default, e.g. "None").
    """
    return dataclasses.field(default=default, metadata={"help": help, **accepts})


def keys_of(config_class: type) -> Mapping[str, Key]:
    """The keys of a configuration dataclass by name, section by section.

    The section of a key is the class that first declares it; a model that changes its default does not move it.
    """
    return _keys_of(config_class)


@functools.cache
def _keys_of(config_class: type) -> Mapping[str, Key]:
    hints = typing.get_type_hints(config_class)
    keys: dict[str, Key] = {}
    for field in dataclasses.fields(config_class):
        if "help" not in field.metadata:
            continue
        section = [cls for cls in config_class.__mro__ if _declares(cls, field.name)][-1]
        keys[field.name] = Key(
            field.name,
            hints[field.name],
            field.default,
            group=title_of(section),
            commands=section.__dict__.get("COMMANDS", ()),
            advanced_in=section.__dict__.get("ADVANCED_IN", getattr(section, "OWN_ADVANCED_IN", ())),
            **field.metadata,
        )
    return types.MappingProxyType(keys)


def _declares(cls: type, name: str) -> bool:
    return not str(cls.__dict__.get("__annotations__", {}).get(name, "ClassVar")).startswith("ClassVar")


def title_of(config_class: type) -> str:
    """The title of a class of keys in `--help` and in messages: the first line of its docstring."""
    return (config_class.__doc__ or config_class.__name__).strip().splitlines()[0].rstrip(".")


def _is_word(raw: object, words: tuple[str, ...]) -> bool:
    """Whether `raw` is one of `words`; None counts as the word `None`, a number as its text."""
    if isinstance(raw, list | tuple | dict):
        return False
    return str(raw).strip() in words


def _is_optional(kind: Any) -> bool:
    return type(None) in typing.get_args(kind)


def _is_sequence(kind: Any) -> bool:
    return typing.get_origin(kind) is tuple


def _element_type(kind: Any) -> Any:
    return typing.get_args(kind)[0]


def _split_list(text: str) -> list:
    """Parses `92,105`, `[92, 105]`, `traffic light,person` or `[[10,13],[16,30]]` to lists of texts."""
    flow = text.strip() if text.strip().startswith("[") else f"[{text}]"
    try:
        items = yaml.load(flow.translate(_STAND_INS), Loader=yaml.BaseLoader)  # builds texts, lists and dicts only
    except (yaml.YAMLError, RecursionError):
        raise ValueError("not a list") from None
    if not isinstance(items, list):
        raise ValueError("not a list")
    return _with_surrogates(items)


def _with_surrogates(value: object) -> Any:
    """Undoes the replacement by `_STAND_INS` in a text or nested lists of text."""
    if isinstance(value, list):
        return [_with_surrogates(item) for item in value]
    return value.translate(_SURROGATES) if isinstance(value, str) else value


@functools.cache
def _validator(kind: Any) -> Callable[[object], object]:
    # Imported only here because it is slow, and `--help` does not convert values.
    from pydantic import ConfigDict, TypeAdapter

    settings = ConfigDict(allow_inf_nan=False, coerce_numbers_to_str=True)
    return TypeAdapter(kind, config=settings).validate_python


def _typed(value: object, kind: Any) -> object:
    """Converts a value to a type; raises ValueError (which pydantic's errors are)."""
    takes_truth = kind is bool or bool in typing.get_args(kind)
    if not takes_truth and any(isinstance(leaf, bool) for leaf in _leaves(value)):
        raise ValueError("a boolean is not a number")
    return _validator(kind)(value)


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _numbers(value: object) -> Iterator[float]:
    return (leaf for leaf in _leaves(value) if isinstance(leaf, int | float) and not isinstance(leaf, bool))


def _describe(kind: Any) -> str:
    words = {bool: "0/1 or True/False", int: "a whole number", float: "a number", str: "a text"}
    if kind in words:
        return words[kind]
    if _is_optional(kind):
        inner = next(arg for arg in typing.get_args(kind) if arg is not type(None))
        return f"{_describe(inner)} or None"
    element = _element_type(kind)
    if _is_sequence(element):
        return "a list of pairs such as [[10,13],[16,30]]"
    plural = {int: "whole numbers such as 92,105", float: "numbers such as 0.5,1.5", str: "names such as person,car",
              bool: "booleans such as True,False"}  # fmt: skip
    count = "" if Ellipsis in typing.get_args(kind) else f"{len(typing.get_args(kind))} "
    return f"a list of {count}{plural[element]}"
