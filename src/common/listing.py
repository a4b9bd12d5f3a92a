"""How messages list names."""

from __future__ import annotations

from collections.abc import Iterable


def some_of(names: Iterable[str], shown: int = 5) -> str:
    """The first few names, and how many more there are.

    Args:
        names: any number.
        shown: most names that are listed.
    """
    names = list(names)
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")
