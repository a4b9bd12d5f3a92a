"""Lists of names in messages."""

from msdet.text import first_few, one_line


def test_the_first_names_are_listed_and_the_others_counted():
    assert first_few([]) == ""
    assert first_few(iter("ab")) == "a, b"
    assert first_few("abcde") == "a, b, c, d, e"
    assert first_few("abcdefg") == "a, b, c, d, e and 2 more"
    assert first_few("abc", shown=1) == "a and 2 more"


def test_a_name_fits_on_a_line():
    assert one_line("two\nlines\tmore") == "two lines more"
    assert one_line("x" * 40) == "x" * 40
    short = one_line("a" * 150 + "b" * 150)
    assert len(short) <= 40 and short.startswith("aaa") and short.endswith("bbb")
