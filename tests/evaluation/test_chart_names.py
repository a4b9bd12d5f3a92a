"""Charts with class names that mean something to matplotlib's formulas."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from msdet.evaluation.classification import draw_confusion
from msdet.tools.check import page

NAMES = ["$x_{$", "100%", "a/b", "..", "two\nlines", "\\frac$", "y" * 300, "$a$"]


def test_confusion(tmp_path):
    draw_confusion(np.eye(len(NAMES), dtype=int), NAMES, tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 1000


def test_boxes_of_classes_of_one_shown_name(monkeypatch):
    """Two long names may be drawn alike: they keep their own bars."""
    names = [*NAMES, "y" * 301]
    table = SimpleNamespace(rows=np.zeros(3, int), sides_at=lambda *_: np.ones((3, 2)))
    monkeypatch.setattr(page.BoxTable, "of", lambda _: table)
    figures = []
    monkeypatch.setattr(page, "_svg", lambda figure: figures.append(figure) or "")
    report = SimpleNamespace(classes=[{"name": name, "boxes": i + 1} for i, name in enumerate(names)])
    page._plots(SimpleNamespace(testing_size=(64, 64), resize="x"), report, [0])
    (figure,) = figures
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    assert len(figure.axes[0].patches) == len(names)
    assert not any(label.get_parse_math() for label in figure.axes[0].get_yticklabels())


@pytest.mark.parametrize("name", NAMES)
def test_each_name_alone(tmp_path, name):
    draw_confusion(np.ones((1, 1), int), [name], tmp_path / "c.png")
    assert (tmp_path / "c.png").is_file()
