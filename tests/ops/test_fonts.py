"""Text of any script on images and charts."""

import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from msdet.errors import UserError
from msdet.evaluation.analysis import ClassCurve, _draw
from msdet.evaluation.classification import draw_confusion
from msdet.ops import fonts
from msdet.ops.fonts import chart_fonts, draw_text, drawable, font_of, missing_letters, runs_of, set_font, text_size

DEJAVU = fonts._dejavu()
STIX = Path(mpl.get_data_path()) / "fonts" / "ttf" / "STIXGeneral.ttf"


def make_font(path, letters, name):
    """A font in which each letter is a filled block."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0)), pen.lineTo((0, 800)), pen.lineTo((900, 800)), pen.lineTo((900, 0)), pen.closePath()
    block = pen.glyph()
    names = [".notdef", *(f"u{ord(letter):X}" for letter in letters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): name for letter, name in zip(letters, names[1:], strict=True)})
    builder.setupGlyf(dict.fromkeys(names, block))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": name, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800, sTypoDescender=-200, usWinAscent=800, usWinDescent=200)
    builder.setupPost()
    builder.save(path)
    return path


@pytest.fixture(autouse=True)
def system(monkeypatch):
    """Sets the system fonts; without a call there are none."""

    def put(*paths):
        monkeypatch.setattr(fonts, "_system_fonts", lambda: list(paths))
        set_font("")

    put()
    yield put
    monkeypatch.undo()
    set_font("")


def rendered(text, size=20.0):
    canvas = np.zeros((60, 400, 3), np.uint8)
    draw_text(canvas, 10, 40, text, size, (255, 255, 255))
    return canvas


def test_each_run_of_letters_uses_the_first_font_that_has_them(tmp_path, system):
    dogs = make_font(tmp_path / "dogs.ttf", "狗犬", "Dogs")
    other = make_font(tmp_path / "other.ttf", "狗猫", "Other")
    system(dogs, other)
    assert [(run.text, run.font) for run in runs_of("a 狗猫 b")] == [
        ("a ", DEJAVU), ("狗", dogs), ("猫", other), (" b", DEJAVU)
    ]  # fmt: skip
    assert drawable("狗猫") == "狗猫" and missing_letters(["狗猫", "x"]) == ""


def test_letters_without_a_font_are_reported_once_with_the_package(caplog):
    assert drawable("猫 cat 狗") == "? cat ?"
    np.testing.assert_array_equal(rendered("猫"), rendered("?"))
    names = ("猫", "狗猫", "개")
    fonts.warn_once(names)
    fonts.warn_once(names)
    (record,) = caplog.records
    assert "no font has the letters 猫狗개: they are drawn as ?" in record.message
    assert "Debian's fonts-noto-cjk" in record.message and "--font" in record.message


def test_the_font_of_the_user_comes_first(tmp_path):
    set_font(str(STIX))
    assert font_of("a") == STIX
    assert font_of("ط") == DEJAVU
    set_font("")
    assert font_of("a") == DEJAVU


@pytest.mark.parametrize("content", [None, b"", b"no font at all", b"\0\1\0\0" + bytes(4)])
def test_a_file_that_is_not_a_font(tmp_path, content):
    path = tmp_path / "x.ttf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"--font .*x\.ttf is not a readable font file"):
        set_font(str(path))


def test_damaged_system_fonts_are_skipped(tmp_path, system):
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    system(broken, tmp_path / "absent.ttf", make_font(tmp_path / "dogs.ttf", "狗", "Dogs"))
    assert font_of("狗") == tmp_path / "dogs.ttf"


def test_marks_and_joiners_stay_with_their_letters():
    assert [run.text for run in runs_of("e\u0301\u200d x")] == ["e\u0301\u200d x"]
    assert missing_letters(["e\u0301\u200d\ufe0f"]) == ""


def test_arabic_is_joined():
    joined = text_size("قطة", 40)[0]
    assert joined != sum(text_size(letter, 40)[0] for letter in "قطة")


def test_position_of_text_and_clipping_at_the_border(tmp_path, system):
    system(make_font(tmp_path / "dogs.ttf", "狗", "Dogs"))
    rows, columns = np.nonzero(rendered("狗")[..., 0] > 128)
    # The block is 0.9 em wide and 0.8 em high, above the baseline.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (24, 39, 10, 27)
    for left, base in ((-300, 20), (395, 20), (10, -50), (10, 300), (-5, 5), (390, 58)):
        canvas = np.zeros((60, 400, 3), np.uint8)
        draw_text(canvas, left, base, "狗" * 30, 20.0, (9, 8, 7))
        assert canvas.shape == (60, 400, 3)
        assert set(map(tuple, canvas.reshape(-1, 3).tolist())) <= {(0, 0, 0), (9, 8, 7)} or canvas.max() <= 9


def test_charts_use_the_same_fonts(tmp_path, system):
    system(make_font(tmp_path / "dogs.ttf", "狗", "Dogs of a test"))
    names = ["狗", "قطة", "a", "猫"]
    before = list(mpl.rcParams["font.family"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with chart_fonts(names):
            assert mpl.rcParams["font.family"][:2] == ["DejaVu Sans", "Dogs of a test"]
        draw_confusion(np.eye(4, dtype=int), names, tmp_path / "c.png")
        for name in names:
            curve = ClassCurve(name, 4, np.linspace(1, 0, 5), np.arange(5) < 3)
            _draw(curve, curve.best(), tmp_path / "t.png")
    assert list(mpl.rcParams["font.family"]) == before
