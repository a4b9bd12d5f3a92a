"""Means over the seeds of benchmarks/int8_accuracy.sh: `python -m benchmarks.int8_means FOLDER`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from msdet.errors import UserError, run_command

# (what, form, other form, the most that AP50 may fall or differ)
_GOALS = (
    ("trained int8 loses against float", "float, ONNX", "int8 (trained), ONNX", 0.01),
    ("fake-quantized and int8 differ", "fake-quantized, MindSpore", "int8 (trained), ONNX", 0.005),
)


def means(folder: Path) -> str:
    """The table of means, and how the forms differ.

    Raises:
        UserError: there are no results.
    """
    files = sorted(folder.glob("compare*/compare.json"))
    if not files:
        raise UserError(f"{folder} holds no compare*/compare.json: run benchmarks/int8_accuracy.sh first")
    runs = [json.loads(file.read_text(encoding="utf-8"))["forms"] for file in files]
    ap50 = {
        form["form"]: [row["ap50"] for run in runs for row in run if row["form"] == form["form"]] for form in runs[0]
    }
    lines = [f"| form | AP50, mean of {len(runs)} | each seed | file, MB | ms a picture |", "|---|---|---|---|---|"]
    for i, form in enumerate(runs[0]):
        each = ", ".join(f"{value:.4f}" for value in ap50[form["form"]])
        time = np.median([run[i]["milliseconds"] for run in runs])
        name, mean = form["form"], np.mean(ap50[form["form"]])
        lines.append(f"| {name} | {mean:.4f} | {each} | {form['megabytes']:.2f} | {time:.1f} |")
    lines.append("")
    for what, first, second, most in _GOALS:
        if first in ap50 and second in ap50:
            difference = float(np.mean(ap50[first]) - np.mean(ap50[second]))
            lines.append(f"{what} by {difference:+.4f} AP50 (goal: at most {most})")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.int8_means", description=__doc__)
    parser.add_argument("folder", type=Path)
    sys.stdout.write(means(parser.parse_args(argv).folder) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
