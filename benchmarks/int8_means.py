"""Means over the seeds of benchmarks/int8_accuracy.sh: `python -m benchmarks.int8_means FOLDER`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from msdet.errors import UserError, run_command

# (description, variant, other variant, largest AP50 loss or difference)
_GOALS = (
    ("trained int8 loses against float", "float, ONNX", "int8 (trained), ONNX", 0.01),
    ("fake-quantized and int8 differ", "fake-quantized, MindSpore", "int8 (trained), ONNX", 0.005),
)


def means(folder: Path) -> str:
    """The table of means, and the differences between variants.

    Raises:
        UserError: there are no results.
    """
    files = sorted(folder.glob("compare*/compare.json"))
    if not files:
        raise UserError(f"{folder} holds no compare*/compare.json: run benchmarks/int8_accuracy.sh first")
    runs = [json.loads(file.read_text(encoding="utf-8"))["variants"] for file in files]
    ap50 = {
        variant["variant"]: [row["ap50"] for run in runs for row in run if row["variant"] == variant["variant"]]
        for variant in runs[0]
    }
    lines = [f"| variant | AP50, mean of {len(runs)} | each seed | file, MB | ms per image |", "|---|---|---|---|---|"]
    for i, variant in enumerate(runs[0]):
        name = variant["variant"]
        each = ", ".join(f"{value:.4f}" for value in ap50[name])
        time = np.median([run[i]["milliseconds"] for run in runs])
        lines.append(f"| {name} | {np.mean(ap50[name]):.4f} | {each} | {variant['megabytes']:.2f} | {time:.1f} |")
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
