"""One line of a YOLO label file."""

import pytest

from msdet.data.formats.yolo.read import parse_line


@pytest.mark.parametrize("line", ["1 3 4 10 12", "0 0.5 0.5 2.01 0.1", "0 -2.5 0.5 0.1 0.1", "2 0.1 0.1 0.2 0.1 5 0.4"])
def test_pixels_are_no_shares_of_an_image(line):
    """Already a few pixels: a small object of a small image must not become a box of ten times its width."""
    with pytest.raises(ValueError, match="is in pixels"):
        parse_line(line)


@pytest.mark.parametrize("line", ["1 0.5 0.5 1 2", "1 1.9 -0.1 0.5 0.5"])
def test_shares_a_little_beyond_the_image_are_none(line):
    assert parse_line(line) == (1, tuple(float(word) for word in line.split()[1:]))
