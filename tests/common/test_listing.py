"""Lists of names in messages."""

from src.common.listing import some_of


def test_the_first_names_are_listed_and_the_others_counted():
    assert some_of([]) == ""
    assert some_of(iter("ab")) == "a, b"
    assert some_of("abcde") == "a, b, c, d, e"
    assert some_of("abcdefg") == "a, b, c, d, e and 2 more"
    assert some_of("abc", shown=1) == "a and 2 more"
