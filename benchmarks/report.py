"""Options, results and result tables of the benchmarks."""

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
    """Options of the command line.

    Attributes:
        rounds: number of rounds of each comparison; 0 = the default of the benchmark.
        quick: tiny sizes, to check that everything runs; the results are meaningless.
        data_dir: dataset in a layout that train.py accepts; None = coco_mini.
        torch_python: Python interpreter with PyTorch; "" = this one.
    """

    rounds: int = 0
    quick: bool = False
    data_dir: Path | None = None
    torch_python: str = ""

    def count(self, usual: int) -> int:
        """Number of rounds, with `usual` as the default."""
        return self.rounds or (2 if self.quick else usual)

    def dataset(self) -> Path:
        """The folder of `data_dir`; by default coco_mini in DATA_DIR (../shared/data next to the repository).

        Raises:
            UsageError: the folder does not exist.
        """
        default = Path(os.environ.get("DATA_DIR") or ROOT.parent / "shared" / "data") / "coco_mini"
        folder = self.data_dir or default
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder: give one with images and annotations with --data_dir")
        return folder


@dataclass(frozen=True)
class Goal:
    """A target for a measured value.

    Attributes:
        of: `SPEEDUP` (baseline time / our time), `SHARE` (our time / baseline time) or `VALUE` (our value, in the
            unit of the row).
        at_least, at_most: the bound; exactly one of them is set.
        reason: why it does not apply to this machine; empty = it applies.
    """

    of: str
    at_least: float | None = None
    at_most: float | None = None
    reason: str = ""

    def met(self, number: float) -> bool:
        """Whether a measured value meets it."""
        return number >= self.at_least if self.at_least is not None else number <= (self.at_most or 0)


@dataclass(frozen=True)
class Row:
    """A comparison with a baseline, or a single measurement.

    Attributes:
        what: what was measured.
        unit: "ms" or "s" (less is better), or "images/s" (more is better).
        side, value: name of our implementation and its median.
        other, baseline_value: the other side and its median; "" and None where there is none.
        goals: targets.
        note: remark for the reader.
    """

    what: str
    unit: str
    side: str
    value: float
    baseline: str = ""
    baseline_value: float | None = None
    goals: tuple[Goal, ...] = ()
    note: str = ""

    @property
    def speedup(self) -> float | None:
        """How many times faster ours is than the baseline."""
        if self.baseline_value is None:
            return None
        return self.value / self.baseline_value if self.unit.endswith("/s") else self.baseline_value / self.value

    def number(self, goal: Goal) -> float:
        """The value that a goal applies to."""
        if goal.of == VALUE:
            return self.value
        speedup = self.speedup or 0.0
        return speedup if goal.of == SPEEDUP else 1 / speedup

    def goal_texts(self) -> Iterator[str]:
        """Each goal with the measured value."""
        units = {SPEEDUP: "x", SHARE: " of its time", VALUE: f" {self.unit}"}
        for goal in self.goals:
            bound = f">= {goal.at_least:g}" if goal.at_least is not None else f"<= {goal.at_most:g}"
            verdict = goal.reason or ("met" if goal.met(self.number(goal)) else "MISSED")
            yield f"{bound}{units[goal.of]}: {self.number(goal):.3g}, {verdict}"

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Row:
        """Inverts `to_dict`."""
        goals = tuple(Goal(goal["of"], goal["at_least"], goal["at_most"], goal["reason"]) for goal in fields["goals"])
        plain = {key: value for key, value in fields.items() if key not in ("goals", "speedup")}
        return cls(**plain, goals=goals)

    def to_dict(self) -> dict[str, Any]:
        """The content of the JSON file."""
        goals = [
            {**asdict(goal), "measured": self.number(goal), "met": None if goal.reason else goal.met(self.number(goal))}
            for goal in self.goals
        ]
        return {**asdict(self), "speedup": self.speedup, "goals": goals}


@dataclass
class Result:
    """The result of one benchmark.

    Attributes:
        rows: rows of the table.
        samples: what was measured -> implementation -> all values, in the unit of the row.
        notes: lines below the table.
    """

    rows: list[Row] = field(default_factory=list)
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def keep(self, what: str, samples: Mapping[str, Sequence[float]], factor: float = 1.0) -> dict[str, float]:
        """Records the samples, multiplied by `factor`; returns the median of each implementation."""
        self.samples[what] = {side: [value * factor for value in values] for side, values in samples.items()}
        return {side: statistics.median(values) for side, values in self.samples[what].items()}

    def compare(
        self,
        what: str,
        unit: str,
        medians: Mapping[str, float],
        side: str,
        baseline: str,
        goals: Sequence[Goal] = (),
        note: str = "",
    ) -> None:
        """Adds a comparison, if both were measured."""
        if side in medians and baseline in medians:
            self.rows.append(Row(what, unit, side, medians[side], baseline, medians[baseline], tuple(goals), note))


NO_TORCH = (
    "PyTorch is not installed, so it was skipped: pip install -r requirements-bench.txt, or give an interpreter that "
    "has it with --torch_python."
)
HEADER = ("what", "this project", "", "baseline", "", "speedup", "goal: measured")


def cells(row: Row) -> tuple[str, ...]:
    """A row of the table as text."""
    baseline = "" if row.baseline_value is None else f"{_digits(row.baseline_value)} {row.unit}"
    speedup = "" if row.speedup is None else f"{row.speedup:.2f}" if row.speedup < 10 else f"{row.speedup:.0f}"
    goal = "; ".join([*row.goal_texts(), *([row.note] if row.note else [])])
    return (row.what, row.side, f"{_digits(row.value)} {row.unit}", row.baseline, baseline, speedup, goal)


def _digits(value: float) -> str:
    """Three significant digits; integers in full."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def plain_table(rows: Sequence[Row]) -> str:
    """A table with aligned columns for a terminal."""
    lines = [HEADER, *map(cells, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join(texts)


def markdown_table(rows: Sequence[Row]) -> str:
    """A Markdown table for the README."""
    lines = [HEADER, ("---",) * len(HEADER), *map(cells, rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)
