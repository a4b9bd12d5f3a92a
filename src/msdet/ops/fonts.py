"""Text of any script on images and charts, with font fallback.

Fonts are tried in this order: the font given to `set_font`, DejaVu Sans (part of matplotlib), system fonts. A text is
split into runs, each drawn with the first font that has its letters. Letters without a font are drawn as `?` and
reported once. Pillow and matplotlib lay out right-to-left and joined scripts.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msdet.errors import UserError

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

logger = logging.getLogger(__name__)

REPLACEMENT = "?"
# Script -> a letter of it, and the Debian package of a font that has this letter.
SCRIPTS = {
    "Latin": ("a", ""), "Cyrillic": ("ж", "fonts-dejavu-core"), "Chinese": ("狗", "fonts-noto-cjk"),
    "Japanese": ("ね", "fonts-noto-cjk"), "Korean": ("개", "fonts-noto-cjk"), "Arabic": ("ك", "fonts-dejavu-core"),
    "Devanagari": ("क", "fonts-noto-core"), "Thai": ("ก", "fonts-noto-core"), "emoji": ("🐶", "fonts-symbola"),
}  # fmt: skip
# Parts of the names of fonts that are tried before others.
_PREFERRED = ("notosanscjk", "sourcehansans", "wqy", "simhei", "msyh", "notosans-regular", "notosansarabic-regular",
              "notosansdevanagari-regular", "notosansthai-regular", "notoemoji-regular", "symbola")  # fmt: skip
# Tables of bitmap and colour fonts, which neither library can draw at an arbitrary size.
_BITMAP_TABLES = ("CBDT", "COLR", "sbix", "SVG ")


@dataclass(frozen=True)
class Run:
    """A part of a text drawn with one font; None is Pillow's built-in font, for ASCII."""

    text: str
    font: Path | None


class _UserFont:
    """The font given to `set_font`, for the whole process."""

    path: Path | None = None


def set_font(path: str) -> None:
    """Sets the font file that is tried before all others; an empty path resets it.

    Raises:
        UserError: it is missing or not a usable font.
    """
    _UserFont.path = Path(path) if path else None
    font_of.cache_clear()
    warn_once.cache_clear()
    if path and not _letters(Path(path)):
        raise UserError(f"--font {path} has no letters that can be drawn: it is empty or a bitmap font")


def runs_of(text: str) -> list[Run]:
    """Splits a text into runs of one font each; letters without a font become `REPLACEMENT`."""
    runs: list[Run] = []
    for letter in text:
        last = runs[-1] if runs else None
        # Keep the current font as long as it has the letters, so that letters of a word can join.
        if last is not None and _has(last.font, letter):
            runs[-1] = Run(last.text + letter, last.font)
            continue
        font = font_of(letter)
        if font is None and not letter.isascii():
            if _is_mark(letter):
                continue
            letter, font = REPLACEMENT, font_of(REPLACEMENT)
        if last is not None and font == last.font:
            runs[-1] = Run(last.text + letter, font)
        else:
            runs.append(Run(letter, font))
    return runs


def _has(font: Path | None, letter: str) -> bool:
    return letter.isascii() if font is None else ord(letter) in _letters(font)


def _is_mark(letter: str) -> bool:
    """True for combining marks, joiners, control characters and spaces, which may be omitted."""
    return unicodedata.category(letter) in ("Mn", "Me", "Cf", "Zs", "Cc")


def missing_letters(texts: Iterable[str]) -> str:
    """The distinct letters of texts for which there is no font."""
    letters = dict.fromkeys(letter for text in texts for letter in text if not letter.isascii())
    return "".join(
        letter for letter in letters if not _is_mark(letter) and font_of(letter) is None
    )  # fmt: skip


def drawable(text: str) -> str:
    """A text with the letters without a font replaced."""
    return "".join(run.text for run in runs_of(text))


def warn_missing_letters(texts: Iterable[str]) -> None:
    """Logs which letters will be drawn as `REPLACEMENT`, and which packages have fonts for them."""
    missing = missing_letters(texts)
    if missing:
        logger.warning(
            "no font has the letters %s: they are drawn as %s. Install a font (%s), or give a font file with --font",
            *(missing[:20], REPLACEMENT, ", ".join(f"Debian's {package}" for package in packages_for(missing))),
        )


@functools.cache
def warn_once(texts: tuple[str, ...]) -> None:
    """Like `warn_missing_letters`, but warns once for the same texts."""
    warn_missing_letters(texts)


def packages_for(letters: str) -> list[str]:
    """Debian packages of fonts for the scripts of letters."""
    names = {_script(letter) for letter in letters}
    found = dict.fromkeys(SCRIPTS[name][1] for name in SCRIPTS if name in names)
    return [name for name in found if name] or ["fonts-noto"]


def _script(letter: str) -> str:
    name = unicodedata.name(letter, "")
    words = {"CJK": "Chinese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean", "ARABIC": "Arabic",
             "DEVANAGARI": "Devanagari", "THAI": "Thai", "CYRILLIC": "Cyrillic"}  # fmt: skip
    own = words.get(name.partition(" ")[0])
    return own or ("emoji" if unicodedata.category(letter) == "So" else "")


@functools.cache
def font_of(letter: str) -> Path | None:
    """The first font that has a letter; None if there is none (ASCII is then drawn with Pillow's built-in font)."""
    first = [path for path in (_UserFont.path, _dejavu()) if path is not None]
    found = next((path for path in first if ord(letter) in _letters(path)), None)
    if found is None and not letter.isascii():
        found = next((path for path in _system_fonts() if ord(letter) in _letters(path)), None)
    return found


@functools.cache
def _dejavu() -> Path | None:
    spec = importlib.util.find_spec("matplotlib")
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0], "mpl-data/fonts/ttf/DejaVuSans.ttf") if folders else Path()
    return path if path.is_file() else None


@functools.cache
def _system_fonts() -> list[Path]:
    """Font files of the system, preferred ones first."""
    try:
        from matplotlib.font_manager import findSystemFonts
    except ImportError:
        return []

    def rank(path: Path) -> tuple[int, str]:
        plain = path.name.lower().replace(" ", "").replace("_", "")
        place = next((i for i, part in enumerate(_PREFERRED) if part in plain), len(_PREFERRED))
        # Prefer the regular face of a family.
        return 2 * place + any(word in plain for word in ("bold", "italic", "light", "black", "thin")), path.name

    return sorted(map(Path, findSystemFonts()), key=rank)


@functools.cache
def _letters(path: Path) -> frozenset[int]:
    """Code points of a font (of a collection: of its first face); empty for an unusable system font.

    Raises:
        UserError: the font given to `set_font` is missing or damaged.
    """
    from fontTools.ttLib import TTFont, TTLibError

    try:
        with TTFont(path, fontNumber=0, lazy=True) as font:
            if any(table in font for table in _BITMAP_TABLES):
                return frozenset()
            return frozenset(font.getBestCmap() or ())
    except (OSError, TTLibError, AssertionError, ValueError, KeyError, AttributeError) as error:
        if path == _UserFont.path:
            raise UserError(f"--font {path} is not a readable font file ({error})") from error
        return frozenset()


@functools.lru_cache(maxsize=64)
def _sized(path: Path | None, size: float) -> FreeTypeFont:
    from PIL import ImageFont

    if path is not None:
        return ImageFont.truetype(str(path), size)
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "load_default with a size returns a FreeType font"
    return font


def text_size(text: str, size: float) -> tuple[int, int, int]:
    """Width, ascent and descent in px of a line of text with the font size `size` px."""
    main = _sized(font_of(REPLACEMENT), size)
    ascent, descent = main.getmetrics()
    width = sum(_sized(run.font, size).getlength(run.text) for run in runs_of(text))
    return int(np.ceil(width)), ascent, descent


def draw_text(canvas: np.ndarray, left: int, base: int, text: str, size: float, colour: tuple[int, int, int]) -> None:
    """Draws a line of text on an image, in place; parts outside are clipped.

    Args:
        canvas: (H, W, 3) uint8.
        left, base: x of the start and y of the baseline, in px.
        text: one line.
        size: font size in px.
        colour: in the channel order of the canvas.
    """
    from PIL import Image, ImageDraw

    width, above, below = text_size(text, size)
    pad = above + below
    # Do not render the part of a long line that is outside the image.
    shown = min(width, max(canvas.shape[1] - left, 0)) + 2 * pad
    mask = Image.new("L", (max(shown, 1), 3 * pad))
    pen, x = ImageDraw.Draw(mask), float(pad)
    for run in runs_of(text):
        if x >= shown:
            break
        font = _sized(run.font, size)
        pen.text((x, pad + above), run.text, fill=255, font=font, anchor="ls")
        x += font.getlength(run.text)
    _blend(canvas, left - pad, base - above - pad, np.asarray(mask), colour)


def _blend(canvas: np.ndarray, left: int, top: int, mask: np.ndarray, colour: Sequence[int]) -> None:
    x1, y1 = max(left, 0), max(top, 0)
    x2, y2 = min(left + mask.shape[1], canvas.shape[1]), min(top + mask.shape[0], canvas.shape[0])
    if x1 >= x2 or y1 >= y2:
        return
    share = mask[y1 - top : y2 - top, x1 - left : x2 - left, None].astype(np.float32) / 255
    part = canvas[y1:y2, x1:x2]
    part[...] = np.round(part * (1 - share) + np.array(colour, np.float32) * share).astype(np.uint8)


@contextmanager
def chart_fonts(texts: Iterable[str] = ()) -> Iterator[None]:
    """Sets matplotlib's fonts for charts drawn in the block, so that they can show `texts`.

    Args:
        texts: class names and other texts of the chart that may not be ASCII.
    """
    import matplotlib as mpl
    from matplotlib.font_manager import FontProperties, fontManager

    texts = list(texts)
    warn_once(tuple(texts))
    paths = dict.fromkeys(run.font for text in ["a", *texts] for run in runs_of(text) if run.font is not None)
    families = []
    for path in paths:
        if path != _dejavu() and not any(Path(entry.fname) == path for entry in fontManager.ttflist):
            fontManager.addfont(str(path))
        families.append("DejaVu Sans" if path == _dejavu() else FontProperties(fname=str(path)).get_name())
    with mpl.rc_context({"font.family": [*dict.fromkeys(families), "sans-serif"]}):
        yield
