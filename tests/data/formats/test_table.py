"""The table of annotation formats."""

import pytest

from msdet.data.formats.table import FORMATS, format_names, format_of
from msdet.errors import UsageError


def test_each_name_and_alias_has_one_format():
    names = format_names()
    assert len(set(names)) == len(names) == sum(1 + len(kind.old_names) for kind in FORMATS)
    for kind in FORMATS:
        assert all(format_of(name) is kind for name in (kind.name, kind.name.upper(), *kind.old_names))


def test_an_unknown_name():
    with pytest.raises(UsageError, match="dataset is 'tfrecord'; it takes auto or one of coco, mindrecord, txt"):
        format_of("tfrecord")
