"""The HTML page of a check."""

import re
import shutil
import subprocess
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from msdet.tools.check import check
from msdet.tools.check import page as page_module
from tests.tools.check.datasets import arguments, valid_dataset


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    folder = valid_dataset(root / "data")
    folder.add_box(1, [60, 0, 20, 10])
    folder.content["images"][1]["file_name"] = "<b>&.jpg"
    folder.write()
    (folder.image_dir / "2.jpg").rename(folder.image_dir / "<b>&.jpg")
    assert check.main([*arguments(root / "data"), "--splits=train", f"--html={root}/page.html"]) == 1
    return root / "page.html"


def test_page_is_self_contained(page):
    text = page.read_text()
    assert not re.search("src=.?http", text) and "href=" not in text.replace("xlink:href=", "")
    assert "box outside its image (1)" in text
    assert "&lt;b&gt;&amp;.jpg" in text and "<b>&" not in text
    assert text.count("data:image/jpeg;base64,") == 4
    assert "<svg" in text


def test_page_opens_in_a_browser(page, tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("Chromium is not installed")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    shot = tmp_path / "page.png"
    subprocess.run([*command, f"--screenshot={shot}", "--window-size=900,1200", page.as_uri()], check=True,
                   capture_output=True, timeout=120)  # fmt: skip
    screenshot_pixels = cv2.imread(str(shot))
    assert screenshot_pixels.shape[:2] == (1200, 900)
    assert len(np.unique(screenshot_pixels.reshape(-1, 3), axis=0)) > 100
    dump = subprocess.run([*command, "--dump-dom", page.as_uri()], check=True, capture_output=True, timeout=120).stdout
    assert b"Check of" in dump and dump.count(b"<figure>") == 4


def test_page_of_unreadable_annotations(tmp_path):
    folder = valid_dataset(tmp_path / "data")
    folder.write()
    folder.ann_file.write_text("{}")
    assert check.main([*arguments(tmp_path / "data"), "--splits=train", f"--html={tmp_path}/page.html"]) == 1
    text = (tmp_path / "page.html").read_text()
    assert "unreadable annotations (1)" in text and "<svg" not in text and "<img" not in text


def test_classes_whose_shown_names_are_equal_have_bars_of_their_own(monkeypatch):
    """Long names may be drawn alike, and matplotlib could take others for formulas."""
    names = ["$x_{$", "100%", "a/b", "..", "two\nlines", "\\frac$", "y" * 300, "$a$", "y" * 301]
    table = SimpleNamespace(rows=np.zeros(3, int), sides_at=lambda *_: np.ones((3, 2)))
    monkeypatch.setattr(page_module.BoxTable, "of", lambda _: table)
    figures = []
    monkeypatch.setattr(page_module, "_svg", lambda figure: figures.append(figure) or "")
    report = SimpleNamespace(classes=[{"name": name, "boxes": i + 1} for i, name in enumerate(names)])
    page_module._plots(SimpleNamespace(testing_size=(64, 64), resize="x"), report, [0])
    (figure,) = figures
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    assert len(figure.axes[0].patches) == len(names)
    assert not any(label.get_parse_math() for label in figure.axes[0].get_yticklabels())
