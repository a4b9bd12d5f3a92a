"""Reads the data of a pickle without unpickling it.

Python's pickle is a program, and running one from a stranger means running whatever it says. Here the operations are
only listed (`pickletools.genops` decodes them and executes nothing) and those that build plain data are followed:
text, numbers, tuples, lists, dictionaries. A call is followed for a few known names, each of which stands for data of
its own, and none of them is ever looked up in a module.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

# How much the calls of a pickle may be given for each of its operations. Files of tensors stay below 2; with references
# to one long list, n operations could hand over n * n items.
_ITEMS_PER_OPERATION = 16
_PLAIN = frozenset(
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
    """The pickle holds something else than plain data; the message names it."""


@dataclass(frozen=True)
class Name:
    """A name that the pickle mentions, `module.attribute`, as text."""

    text: str


def plain_dict(items: Iterable[tuple[Any, Any]]) -> dict:
    """A dictionary of (key, value).

    Raises:
        RefusedPickle: a key is something else than text or a number. Python hashes what is nested by going down into
            it, and nothing stops it before the stack of the process ends.
    """
    result = {}
    for key, value in items:
        if not isinstance(key, str | bytes | int | float | None):
            raise RefusedPickle(f"a dictionary has a {type(key).__name__} as a key")
        result[key] = value
    return result


class PickleReader:
    """Follows one pickle.

    Args:
        calls: name -> what a call of it with the given arguments stands for. Any other call is refused.
        names: names that may appear without being called.
        persistent: what a persistent id (a reference to data outside the pickle) stands for.
    """

    def __init__(
        self,
        calls: Mapping[str, Callable[..., Any]],
        names: frozenset[str] = frozenset(),
        persistent: Callable[[Any], Any] | None = None,
    ) -> None:
        self.calls = calls
        self.names = names
        self.persistent = persistent
        self.stack: list[Any] = []
        # What lies below each mark, so that a mark is found at once however many there are.
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.allowance = 0

    def read(self, file: BinaryIO) -> Any:
        """The object that the pickle at the file's position describes; the position is behind it afterwards.

        Raises:
            RefusedPickle: it holds what is not allowed, or is damaged.
        """
        self.stack, self.below, self.memo = [], [], {}
        self.allowance = 0
        try:
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name == "STOP":
                    return self.stack.pop()
                self.allowance += _ITEMS_PER_OPERATION
                self._follow(opcode.name, argument)
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise RefusedPickle(f"the pickle is damaged: {error or type(error).__name__}") from error
        raise RefusedPickle("the pickle is cut short")

    def _follow(self, name: str, argument: Any) -> None:
        if name in _PLAIN:
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
            raise RefusedPickle(f"the pickle uses the operation {name}, which plain tensors do not need")

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
            raise RefusedPickle("the pickle names something by other things than text")
        self._push_name(f"{module}.{attribute}")

    def _push_name(self, text: str) -> None:
        if text not in self.calls and text not in self.names:
            raise RefusedPickle(f"the file wants to use {text}: only tensors, text, numbers and dictionaries are read")
        self.stack.append(Name(text))

    def _reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Name) or function.text not in self.calls or not isinstance(arguments, tuple):
            raise RefusedPickle(f"the file wants to call {getattr(function, 'text', type(function).__name__)}")
        self._spend(arguments)
        self.stack.append(self.calls[function.text](*arguments))

    def _spend(self, arguments: tuple) -> None:
        self.allowance -= len(arguments) + sum(len(item) for item in arguments if isinstance(item, list | tuple | dict))
        if self.allowance < 0:
            raise RefusedPickle("its calls are given the same long lists again and again")

    def _build(self, _: Any) -> None:
        # The attributes of an ordered dictionary (PyTorch keeps version numbers there) are no tensors: left out.
        state = self.stack.pop()
        if not isinstance(self.stack[-1], dict) or not isinstance(state, dict):
            raise RefusedPickle(f"the file wants to set the state of a {type(self.stack[-1]).__name__}")

    def _persistent_id(self, _: Any) -> None:
        if self.persistent is None:
            raise RefusedPickle("the pickle refers to data outside of it")
        identity = self.stack.pop()
        if isinstance(identity, tuple):
            self._spend(identity)
        self.stack.append(self.persistent(identity))


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
