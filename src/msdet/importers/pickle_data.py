"""Reads plain data from a pickle without unpickling it.

A pickle is a program, and unpickling an untrusted one executes whatever it contains. Here `pickletools.genops` decodes
the opcodes, which executes nothing, and `PickleReader` interprets those that build plain data: text, numbers, tuples,
lists, dictionaries. Calls are replaced for a few known names; no name is ever looked up in a module.

A `pickle.Unpickler` with a restricted `find_class` would execute nothing either, but untrusted files still crash it or
fill the memory, before any method of the subclass is called (measured with CPython 3.11):

- It hashes every dictionary key, and a nested tuple recursively and without limit: 1 MB ending in a key of a million
  nested tuples is a segmentation fault. A subclass cannot intercept this, nor limit the time of hashing a wide tuple
  again and again.
- Its memo is an array of twice the highest index: the 9 bytes `80 02 5d 72 00 e1 f5 05 2e` take 1.5 GB, and up to 64 GB
  with the highest index.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

# Items that calls may receive per opcode. Files of tensors need less than 2; by passing one long list again and again,
# n opcodes could pass n * n items.
_ITEMS_PER_OPCODE = 16
_CONSTANTS = frozenset(
    (
        "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
        "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
        "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    )
)  # fmt: skip
_EMPTY: Mapping[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class RefusedPickle(Exception):
    """The pickle is damaged, or contains something other than plain data; the message names it."""


@dataclass(frozen=True)
class GlobalName:
    """A name `module.attribute` that the pickle refers to."""

    text: str


def plain_dict(items: Iterable[tuple[Any, Any]]) -> dict:
    """A dictionary from pairs (key, value).

    Raises:
        RefusedPickle: a key is neither text nor a number. Hashing a deeply nested tuple overflows the stack of the
            process.
    """
    result = {}
    for key, value in items:
        if not isinstance(key, str | bytes | int | float | None):
            raise RefusedPickle(f"a dictionary has a {type(key).__name__} as a key")
        result[key] = value
    return result


class PickleReader:
    """Interprets a pickle.

    Args:
        functions: name -> function to use in its place. Calls of other names are refused.
        names: names that may be referred to but not called.
        load_persistent: persistent id (a reference to data outside the pickle) -> object.
    """

    def __init__(
        self,
        functions: Mapping[str, Callable[..., Any]],
        names: frozenset[str] = frozenset(),
        load_persistent: Callable[[Any], Any] | None = None,
    ) -> None:
        self.functions = functions
        self.names = names
        self.load_persistent = load_persistent
        self.stack: list[Any] = []
        # The part of the stack below each mark, so that a mark is found without a search.
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.budget = 0

    def read(self, file: BinaryIO) -> Any:
        """Reads the pickle at the position of the file, which is moved to its end, and returns its object.

        Raises:
            RefusedPickle: the pickle is damaged or contains something that is not allowed.
        """
        self.stack, self.below, self.memo = [], [], {}
        self.budget = 0
        try:
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name == "STOP":
                    return self.stack.pop()
                self.budget += _ITEMS_PER_OPCODE
                self._interpret(opcode.name, argument)
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise RefusedPickle(f"the pickle is damaged: {error or type(error).__name__}") from error
        raise RefusedPickle("the pickle is truncated")

    def _interpret(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self.stack.append(argument)
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self._push_tuple(_TUPLES[name])
        elif name in ("PROTO", "FRAME"):
            pass
        elif name in _HANDLERS:
            _HANDLERS[name](self, argument)
        else:
            raise RefusedPickle(f"the pickle uses the opcode {name}, which files of tensors do not need")

    def _push_tuple(self, count: int) -> None:
        if len(self.stack) < count:
            raise ValueError("a tuple has too few items")
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(items)

    def _above_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def _mark(self, _: Any) -> None:
        self.below.append(self.stack)
        self.stack = []

    def _tuple(self, _: Any) -> None:
        items = tuple(self._above_mark())
        self.stack.append(items)

    def _list(self, _: Any) -> None:
        items = self._above_mark()
        self.stack.append(items)

    def _dict(self, _: Any) -> None:
        items = self._above_mark()
        self.stack.append(plain_dict(zip(items[::2], items[1::2], strict=True)))

    def _pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._above_mark()

    def _append(self, _: Any) -> None:
        item = self.stack.pop()
        self._top(list).append(item)

    def _appends(self, _: Any) -> None:
        items = self._above_mark()
        self._top(list).extend(items)

    def _set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._top(dict).update(plain_dict([(key, value)]))

    def _set_items(self, _: Any) -> None:
        items = self._above_mark()
        self._top(dict).update(plain_dict(zip(items[::2], items[1::2], strict=True)))

    def _top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise RefusedPickle(f"the pickle adds items to a {type(self.stack[-1]).__name__}")
        return self.stack[-1]

    def _put(self, argument: Any) -> None:
        self.memo[int(argument)] = self.stack[-1]

    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _get(self, argument: Any) -> None:
        self.stack.append(self.memo[int(argument)])

    def _global(self, argument: Any) -> None:
        module, attribute = str(argument).split(" ", 1)
        self._push_name(f"{module}.{attribute}")

    def _stack_global(self, _: Any) -> None:
        attribute, module = self.stack.pop(), self.stack.pop()
        if not isinstance(attribute, str) or not isinstance(module, str):
            raise RefusedPickle("the pickle refers to a name that is not text")
        self._push_name(f"{module}.{attribute}")

    def _push_name(self, text: str) -> None:
        if text not in self.functions and text not in self.names:
            raise RefusedPickle(f"the file refers to {text}: only tensors, text, numbers and dictionaries are read")
        self.stack.append(GlobalName(text))

    def _reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if (
            not isinstance(function, GlobalName)
            or function.text not in self.functions
            or not isinstance(arguments, tuple)
        ):
            raise RefusedPickle(f"the file calls {getattr(function, 'text', type(function).__name__)}")
        self._charge(arguments)
        self.stack.append(self.functions[function.text](*arguments))

    def _charge(self, arguments: tuple) -> None:
        """Deducts the size of arguments from the budget of the pickle."""
        self.budget -= len(arguments) + sum(len(item) for item in arguments if isinstance(item, list | tuple | dict))
        if self.budget < 0:
            raise RefusedPickle("its calls pass the same long lists again and again")

    def _build(self, _: Any) -> None:
        # Attributes of an ordered dictionary, where PyTorch keeps version numbers, are ignored.
        state = self.stack.pop()
        if not isinstance(self.stack[-1], dict) or not isinstance(state, dict):
            raise RefusedPickle(f"the file sets the state of a {type(self.stack[-1]).__name__}")

    def _persistent_id(self, _: Any) -> None:
        if self.load_persistent is None:
            raise RefusedPickle("the pickle refers to external data")
        identity = self.stack.pop()
        if isinstance(identity, tuple):
            self._charge(identity)
        self.stack.append(self.load_persistent(identity))


_HANDLERS: Mapping[str, Callable[[PickleReader, Any], None]] = {
    "MARK": PickleReader._mark,
    "TUPLE": PickleReader._tuple,
    "LIST": PickleReader._list,
    "DICT": PickleReader._dict,
    "POP": PickleReader._pop,
    "APPEND": PickleReader._append,
    "APPENDS": PickleReader._appends,
    "SETITEM": PickleReader._set_item,
    "SETITEMS": PickleReader._set_items,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), PickleReader._put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), PickleReader._get),
    "MEMOIZE": PickleReader._memoize,
    "GLOBAL": PickleReader._global,
    "STACK_GLOBAL": PickleReader._stack_global,
    "REDUCE": PickleReader._reduce,
    "BUILD": PickleReader._build,
    "BINPERSID": PickleReader._persistent_id,
}
