"""Which files are images, by name."""

import pytest

from msdet.data.images.file_names import (
    READABLE_SUFFIXES,
    find_image,
    image_names,
    is_ignored_name,
    is_image_name,
    walk_images,
)


@pytest.mark.parametrize("name", [".hidden.jpg", "._a.jpg", "Thumbs.db", "__MACOSX", "@eaDir", "DESKTOP.INI"])
def test_hidden_and_system_files_are_ignored(name):
    assert is_ignored_name(name) and not is_image_name(name)


def test_suffixes_in_any_case():
    assert all(is_image_name(name) for name in ("a.jpg", "a.JPEG", "a.b.Tif", "a.gif"))
    assert not any(is_image_name(name) for name in ("a.txt", "jpg", "a.jpg.txt", "a.heic"))


def test_names_in_a_folder(tmp_path):
    for name in ("b.PNG", "a.jpg", ".c.jpg", "d.txt"):
        (tmp_path / name).touch()
    assert image_names(tmp_path) == ["a.jpg", "b.PNG"]
    assert image_names(tmp_path / "absent") == []


def test_folders_are_read_recursively_and_once(tmp_path):
    for name in ("b/2.jpg", "b/1.jpg", "a/deep/3.png", ".cache/4.jpg", "elsewhere/5.jpg"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).touch()
    (tmp_path / "data" / "elsewhere").rename(tmp_path / "elsewhere")
    (tmp_path / "data" / "c").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "a" / "up").symlink_to(tmp_path / "data")
    found = [path.relative_to(tmp_path / "data").as_posix() for path in walk_images(tmp_path / "data")]
    assert found == ["a/deep/3.png", "b/1.jpg", "b/2.jpg", "c/5.jpg"]


def test_the_image_of_a_stem(tmp_path):
    for name in ("a.bmp", "a.JPG", "a.png", "b.c.tiff"):
        (tmp_path / name).touch()
    find = find_image(tmp_path)
    assert (find("a"), find("b.c"), find("b")) == ("a.JPG", "b.c.tiff", "")


def test_the_formats_in_the_readme_are_readable():
    promised = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".jp2", ".ppm"}
    assert promised <= set(READABLE_SUFFIXES) and ".gif" not in READABLE_SUFFIXES
