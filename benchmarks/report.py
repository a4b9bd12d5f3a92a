"""What a benchmark is asked, what it answers, and the table that is made of it."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from msdet.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent
SPEEDUP, SHARE, VALUE = "speedup", "share", "value"


@dataclass(frozen=True)
class Options:
    """What the command line says.

    Attributes:
        rounds: of each comparison; 0 = as many as the benchmark thinks right.
        quick: tiny sizes, to see that everything runs; the numbers mean nothing.
        data_dir: folder of images with annotations, in one of the layouts that train.py takes; None = coco_mini.
        torch_python: interpreter that has PyTorch; "" = this one.
    """

    rounds: int = 0
    quick: bool = False
    data_dir: Path | None = None
    torch_python: str = ""

    def count(self, usual: int) -> int:
        """How many rounds, where `usual` is the benchmark's own choice."""
        return self.rounds or (2 if self.quick else usual)

    def dataset(self) -> Path:
        """The folder of `data_dir`; without one, coco_mini in DATA_DIR (../shared/data beside the repository).

        Raises:
            UsageError: neither is there.
        """
        default = Path(os.environ.get("DATA_DIR") or ROOT.parent / "shared" / "data") / "coco_mini"
        folder = self.data_dir or default
        if not folder.is_dir():
            raise UsageError(f"{folder} is no folder: name one with images and annotations by --data_dir")
        return folder


@dataclass(frozen=True)
class Goal:
    """A number to reach.

    Attributes:
        of: `SPEEDUP` (the other side's time over ours), `SHARE` (our time over the other side's) or `VALUE` (our own
            number, in the row's unit).
        at_least, at_most: the bound; one of them is set.
        reason: why it does not count on this machine; empty = it counts.
    """

    of: str
    at_least: float | None = None
    at_most: float | None = None
    reason: str = ""

    def met(self, number: float) -> bool:
        """Whether a measured number reaches it."""
        return number >= self.at_least if self.at_least is not None else number <= (self.at_most or 0)


@dataclass(frozen=True)
class Row:
    """Two sides of one measurement, or one side alone.

    Attributes:
        what: was measured.
        unit: "ms" or "s", of which less is better; "images/s", of which more is.
        side, value: our side and its median.
        other, other_value: the other side and its median; "" and None where there is none.
        goals: to reach.
        note: what a reader must know.
    """

    what: str
    unit: str
    side: str
    value: float
    other: str = ""
    other_value: float | None = None
    goals: tuple[Goal, ...] = ()
    note: str = ""

    @property
    def speedup(self) -> float | None:
        """How many times as fast our side is."""
        if self.other_value is None:
            return None
        return self.value / self.other_value if self.unit.endswith("/s") else self.other_value / self.value

    def number(self, goal: Goal) -> float:
        """What a goal looks at."""
        if goal.of == VALUE:
            return self.value
        speedup = self.speedup or 0.0
        return speedup if goal.of == SPEEDUP else 1 / speedup

    def goal_texts(self) -> Iterator[str]:
        """Each goal with what was measured."""
        units = {SPEEDUP: "x", SHARE: " of its time", VALUE: f" {self.unit}"}
        for goal in self.goals:
            bound = f">= {goal.at_least:g}" if goal.at_least is not None else f"<= {goal.at_most:g}"
            verdict = goal.reason or ("met" if goal.met(self.number(goal)) else "MISSED")
            yield f"{bound}{units[goal.of]}: {self.number(goal):.3g}, {verdict}"

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Row:
        """The row of which `to_dict` made these fields."""
        goals = tuple(Goal(goal["of"], goal["at_least"], goal["at_most"], goal["reason"]) for goal in fields["goals"])
        plain = {key: value for key, value in fields.items() if key not in ("goals", "times_as_fast")}
        return cls(**plain, goals=goals)

    def to_dict(self) -> dict[str, Any]:
        """For the JSON file."""
        goals = [
            {**asdict(goal), "measured": self.number(goal), "met": None if goal.reason else goal.met(self.number(goal))}
            for goal in self.goals
        ]
        return {**asdict(self), "times_as_fast": self.speedup, "goals": goals}


@dataclass
class Result:
    """The answer of one benchmark.

    Attributes:
        rows: of the table.
        samples: what was measured -> side -> every single value, in the row's unit.
        notes: lines below the table.
    """

    rows: list[Row] = field(default_factory=list)
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def keep(self, what: str, samples: Mapping[str, Sequence[float]], factor: float = 1.0) -> dict[str, float]:
        """Keeps the samples, times `factor`; returns the median of each side."""
        self.samples[what] = {side: [value * factor for value in values] for side, values in samples.items()}
        return {side: statistics.median(values) for side, values in self.samples[what].items()}

    def compare(
        self,
        what: str,
        unit: str,
        medians: Mapping[str, float],
        side: str,
        other: str,
        goals: Sequence[Goal] = (),
        note: str = "",
    ) -> None:
        """Adds a row of two sides, if both were measured."""
        if side in medians and other in medians:
            self.rows.append(Row(what, unit, side, medians[side], other, medians[other], tuple(goals), note))


NO_TORCH = (
    "PyTorch is not installed, so it was left out: pip install -r requirements-bench.txt, or name an interpreter that "
    "has it by --torch_python."
)
HEADER = ("what", "this project", "", "other side", "", "times as fast", "goal: measured")


def cells(row: Row) -> tuple[str, ...]:
    """A row of the table as text."""
    other = "" if row.other_value is None else f"{_digits(row.other_value)} {row.unit}"
    speedup = "" if row.speedup is None else f"{row.speedup:.2f}" if row.speedup < 10 else f"{row.speedup:.0f}"
    goal = "; ".join([*row.goal_texts(), *([row.note] if row.note else [])])
    return (row.what, row.side, f"{_digits(row.value)} {row.unit}", row.other, other, speedup, goal)


def _digits(value: float) -> str:
    """Three digits that count; a count in full."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def plain_table(rows: Sequence[Row]) -> str:
    """Columns of equal width for a terminal."""
    lines = [HEADER, *map(cells, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join(texts)


def markdown_table(rows: Sequence[Row]) -> str:
    """The same for a README."""
    lines = [HEADER, ("---",) * len(HEADER), *map(cells, rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)
