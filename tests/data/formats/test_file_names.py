"""File names that match a file only loosely."""

import unicodedata

import pytest

from msdet.data.annotations import ImageEntry, RawAnnotations
from msdet.data.formats.file_names import (
    FileNameResolver,
    log_renamed,
    resolve_file_names,
    shared_files,
    suggest_location,
)


def annotations(folder, *names):
    images = [ImageEntry(number, name) for number, name in enumerate(names)]
    return RawAnnotations(folder / "a.json", folder, images, [], [])


@pytest.fixture
def folder(tmp_path):
    """An image folder, `train`, with a few files."""
    root = tmp_path / "train"
    for name in ("room.jpg", "my cat.jpg", "sub/Cafe\u0301.png", "twin.jpg", "TWIN.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("room.jpg", "room.jpg"),
        ("ROOM.JPG", "room.jpg"),
        (".\\Room.jpg", "room.jpg"),
        ("train/room.jpg", "room.jpg"),
        ("C:\\data\\train\\room.jpg", "room.jpg"),
        ("../train/room.jpg", "room.jpg"),
        ("my%20cat.jpg", "my cat.jpg"),
        ("sub/caf\u00e9.png", "sub/Cafe\u0301.png"),
    ],
)
def test_a_name_is_replaced_by_that_of_its_file(folder, name, found):
    raw = annotations(folder, name)
    renamed = resolve_file_names(raw)
    assert raw.images[0].file_name == found
    assert renamed == ({} if name == found else {name: found})


@pytest.mark.parametrize("name", ["Twin.jpg", "other.jpg", "../room.jpg", "/etc/passwd", "sub", "a\0b", "", 5, None])
def test_other_names_are_kept(folder, name):
    (folder.parent / "room.jpg").touch()
    raw = annotations(folder, name)
    assert resolve_file_names(raw) == {}
    assert raw.images[0].file_name == name


def test_replaced_names_are_logged(folder, caplog):
    raw = annotations(folder, "ROOM.jpg")
    log_renamed(raw, resolve_file_names(raw))
    assert "a.json: 1 file names differ from those of the files: ROOM.jpg -> room.jpg" in caplog.text


def test_files_with_several_ids(folder):
    raw = annotations(folder, "room.jpg", "./room.jpg", "my cat.jpg", None)
    assert shared_files(raw) == [("room.jpg", [0, 1])]


def test_paths_outside_of_an_image_folder(folder):
    resolver = FileNameResolver()
    assert resolver.resolve(folder / "room.jpg") == folder / "room.jpg"
    assert resolver.resolve(folder / "Room.JPG") == folder / "room.jpg"
    accent = unicodedata.normalize("NFC", "Cafe\u0301.png")
    assert resolver.resolve(folder / "sub" / accent) == folder / "sub" / "Cafe\u0301.png"
    assert resolver.resolve(folder / "none.jpg") == folder / "none.jpg"


def test_hints_for_missing_files(folder, tmp_path):
    assert suggest_location(folder.parent, "room.jpg") == "; train/room.jpg exists"
    assert suggest_location(folder, "deep/my cat.png") == "; my cat.jpg exists"
    assert suggest_location(folder, "none.jpg") == ""
    (tmp_path / "empty").mkdir()
    assert suggest_location(tmp_path / "empty", "room.jpg") == "; the folder is empty"
