"""A picture of a training's course."""

from __future__ import annotations

import csv
from pathlib import Path

from src.common.files import atomic_path


def draw_curves(folder: Path) -> Path | None:
    """Draws `train.csv` and `eval.csv` of a folder as `curves.png`, and returns its path; None if there is no step.

    Args:
        folder: where the two files lie, as the training wrote them.
    """
    train = _columns(folder / "train.csv")
    if not train.get("step"):
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scored = _columns(folder / "eval.csv")
    figure = Figure(figsize=(12, 4), layout="constrained")
    FigureCanvasAgg(figure)
    loss_axis, rate_axis, score_axis = figure.subplots(1, 3)
    for name in [n for n in train if n not in ("step", "epoch", "lr", "gradient_norm", "loss_scale")]:
        loss_axis.plot(train["step"], train[name], label=name, linewidth=1 if name == "loss" else 0.7)
    loss_axis.set(xlabel="step", title="loss", yscale="log")
    loss_axis.legend(fontsize="small")
    rate_axis.plot(train["step"], train["lr"])
    rate_axis.set(xlabel="step", title="learning rate")
    for name in [n for n in scored if n not in ("step", "epoch")]:
        score_axis.plot(scored["step"], scored[name], marker=".", label=name)
    score_axis.set(xlabel="step", title="validation", ylim=(0, 1))
    score_axis.legend(fontsize="small")
    path = folder / "curves.png"
    with atomic_path(path) as beside:
        figure.savefig(beside, dpi=100)
    return path


def _columns(path: Path) -> dict[str, list[float]]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    return {name: [float(row[i]) for row in rows if len(row) == len(header)] for i, name in enumerate(header)}
