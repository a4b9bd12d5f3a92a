"""The launcher's own options, and how they are told from the arguments and flags of the entry script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msdet.errors import UsageError

ENGINES = ("msrun", "mpirun")


@dataclass(frozen=True)
class Options:
    """The launcher's own options.

    Attributes:
        device_num: processes on this machine; 0: as the script or the rank table says.
        worker_num: processes on all machines; 0: those of this machine.
        node_rank: number of this machine; master_addr, master_port: where the ranks meet; port 0: a free one.
        launcher: one of `ENGINES`; empty: msrun.
        rank_table_file: as the positional argument: it tells msrun machines and cards.
        stall_timeout: seconds without a step after which a rank counts as stalled; longer than a compile.
        max_restarts: how often a training that failed is continued from its newest checkpoint.
        dry_run: print only.
    """

    device_num: int = 0
    worker_num: int = 0
    node_rank: int = -1
    master_addr: str = "127.0.0.1"
    master_port: int = 0
    launcher: str = ""
    rank_table_file: str = ""
    stall_timeout: float = 1800.0
    max_restarts: int = 0
    dry_run: bool = False


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Positional arguments, which stand first, and flags; --dry_run may stand anywhere."""
    dry = [word for word in arguments if word in ("--dry_run", "--dry-run")]
    rest = [word for word in arguments if word not in dry]
    first = next((i for i, word in enumerate(rest) if word.startswith("--")), len(rest))
    return rest[:first], [*rest[first:], *(["--dry_run=1"] if dry else [])]


def own_options(flags: Sequence[str]) -> tuple[Options, list[str]]:
    """The launcher's own options among the flags, and the others."""
    kinds = {name: type(value) for name, value in vars(Options()).items()}
    values: dict[str, Any] = {}
    rest: list[str] = []
    words = list(flags)
    while words:
        word = words.pop(0)
        name, equals, text = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in kinds:
            rest.append(word)
            continue
        if not equals:
            if not words:
                raise UsageError(f"--{name} needs a value")
            text = words.pop(0)
        try:
            values[name] = text.lower() in ("1", "true") if kinds[name] is bool else kinds[name](text)
        except ValueError:
            raise UsageError(f"--{name} is {text!r}; it takes a number") from None
        if kinds[name] in (int, float) and values[name] < (-1 if name == "node_rank" else 0):
            raise UsageError(f"--{name} is {text}; it takes a number that is not negative")
    if values.get("launcher", "msrun") not in ENGINES:
        raise UsageError(f"--launcher is {values['launcher']!r}; it takes one of {', '.join(ENGINES)}")
    return Options(**values), rest
