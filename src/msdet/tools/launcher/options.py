"""The launcher's own options, separated from the arguments and flags of the entry script."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from msdet.errors import UsageError

ENGINES = ("msrun", "mpirun")


@dataclass(frozen=True)
class Options:
    """The launcher's own options.

    Attributes:
        device_num: processes on this machine; 0: given by the script or the rank table.
        worker_num: processes on all machines; 0: those of this machine.
        node_rank: number of this machine; -1: not given.
        master_addr, master_port: where the ranks connect; port 0: a free one.
        launcher: one of `ENGINES`; empty: msrun.
        rank_table_file: like the positional argument: selects the devices and machines for msrun.
        stall_timeout: seconds without a step after which a rank is considered stalled; longer than a compile.
        max_restarts: how often a failed training is restarted from its newest checkpoint.
        dry_run: print the commands without running them.
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


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Positional arguments, which come first, and flags; --dry_run may be anywhere."""
    dry = [word for word in arguments if word in ("--dry_run", "--dry-run")]
    rest = [word for word in arguments if word not in dry]
    first = next((i for i, word in enumerate(rest) if word.startswith("--")), len(rest))
    return rest[:first], [*rest[first:], *(["--dry_run=1"] if dry else [])]


def parse_options(flags: Sequence[str]) -> tuple[Options, list[str]]:
    """The launcher's own options among the flags, and the other flags.

    Raises:
        UsageError: an option has a wrong value or none.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name, default in vars(Options()).items():
        kind = _boolean if isinstance(default, bool) else type(default)
        parser.add_argument(f"--{name}", type=kind, default=default, choices=ENGINES if name == "launcher" else None)
    try:
        values, rest = parser.parse_known_args(flags)
    except argparse.ArgumentError as error:
        raise UsageError(f"{error.argument_name}: {error.message}") from None
    for name, value in vars(values).items():
        if isinstance(value, int | float) and value < (-1 if name == "node_rank" else 0):
            raise UsageError(f"--{name} is {value}: it must not be negative")
    return Options(**vars(values)), rest


def _boolean(text: str) -> bool:
    return text.lower() in ("1", "true")
