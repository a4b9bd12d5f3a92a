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


def one_line(name: str, longest: int = 40) -> str:
    """A name as a chart can show it: without line breaks, its middle taken out where it is longer than `longest`."""
    name = " ".join(name.split())
    half = (longest - 3) // 2
    return name if len(name) <= longest else f"{name[:half]}...{name[-half:]}"
