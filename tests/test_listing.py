"""Lists of names in messages."""

from msdet.text import one_line, some_of


def test_the_first_names_are_listed_and_the_others_counted():
    assert some_of([]) == ""
    assert some_of(iter("ab")) == "a, b"
    assert some_of("abcde") == "a, b, c, d, e"
    assert some_of("abcdefg") == "a, b, c, d, e and 2 more"
    assert some_of("abc", shown=1) == "a and 2 more"


def test_a_name_fits_on_a_line():
    assert one_line("two\nlines\tmore") == "two lines more"
    assert one_line("x" * 40) == "x" * 40
    short = one_line("a" * 150 + "b" * 150)
    assert len(short) <= 40 and short.startswith("aaa") and short.endswith("bbb")
