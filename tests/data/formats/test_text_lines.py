"""Text files of datasets: encodings, line ends, class names, kinds of lists."""

import pytest

from msdet.config.sections.data import MAX_CLASSES
from msdet.data.formats.text_lines import class_names_in, list_kind, read_lines, split_line
from msdet.errors import UserError


@pytest.mark.parametrize(
    "data",
    [
        b"a\nb\xc3\xa9\n",
        b"a\r\nb\xc3\xa9\r\n",
        b"a\rb\xc3\xa9",
        b"\xef\xbb\xbfa\n\xef\xbb\xbfb\xc3\xa9\n",
        "a\nbé".encode("utf-16"),
        b"\xfe\xff" + "a\nbé\n".encode("utf-16-be"),
    ],
)
def test_encodings_and_line_ends(tmp_path, data):
    (tmp_path / "a.txt").write_bytes(data)
    assert read_lines(tmp_path / "a.txt") == ["a", "bé"]


def test_file_names_may_have_other_bytes(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"b\xff.jpg\n")
    assert read_lines(path, with_file_names=True) == ["b\udcff.jpg"]
    with pytest.raises(UserError, match=r"a\.txt is not text: byte 1 is not UTF-8; save it as UTF-8"):
        read_lines(path)
    path.write_bytes(b"\x00\xff")
    with pytest.raises(UserError, match="is not text"):
        read_lines(path, with_file_names=True)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="is missing"):
        read_lines(tmp_path / "a.txt")
    with pytest.raises(UserError, match="cannot be read"):
        read_lines(tmp_path)


def test_class_names_come_from_the_first_folder_with_a_file(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "obj.names").write_text(f"cat \nhot dog\n{name}\n\n")
    assert class_names_in([tmp_path, tmp_path / "two", tmp_path / "one"]) == ["cat", "hot dog", "two"]
    assert class_names_in([tmp_path]) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat\n\ndog\n", r"classes\.txt:2 is empty"),
        ("cat\ndog\ncat\n", r"classes\.txt:3: the class 'cat' occurs twice"),
        ("".join(f"{number}\n" for number in range(MAX_CLASSES + 1)), f"has {MAX_CLASSES + 1} classes, more than"),
    ],
)
def test_class_names_that_are_not_usable(tmp_path, text, message):
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        class_names_in([tmp_path])


@pytest.mark.parametrize(
    ("text", "kind"),
    [("1\n2 -1\n", "names"), ("000001\na.jpg\n", "paths"), ("x/1\n", "paths"), ("a.jpg 1,2,3,4,0\n", "boxes")],
)
def test_kinds_of_lists(tmp_path, text, kind):
    (tmp_path / "a.txt").write_text(text)
    assert list_kind(tmp_path / "a.txt") == kind


@pytest.mark.parametrize(
    ("line", "path", "boxes"),
    [
        ("a.jpg 1,2,3,4,0  5,6,7,8,1", "a.jpg", ["1,2,3,4,0", "5,6,7,8,1"]),
        ("my  cat, 2.jpg 1,2,3,4,0", "my  cat, 2.jpg", ["1,2,3,4,0"]),
        ("a.jpg", "a.jpg", []),
        ("a,b.jpg", "a,b.jpg", []),
        ("a.jpg 1,2,b", "a.jpg", ["1,2,b"]),
        ("1,2,3,4,0", "", ["1,2,3,4,0"]),
    ],
)
def test_lines_are_split_into_path_and_boxes(line, path, boxes):
    assert split_line(line) == (path, boxes)
