"""The scan of image files: sizes, errors and digests."""

import shutil

import pytest

from msdet.data.validation.image_scan import scan_images
from msdet.errors import UserError
from tests.data.conftest import write_image
from tests.data.images.test_decode import with_orientation


@pytest.fixture
def folder(tmp_path):
    write_image(tmp_path / "a.jpg", 40, 30)
    shutil.copy(tmp_path / "a.jpg", tmp_path / "copy.jpg")
    (tmp_path / "turned.jpg").write_bytes(with_orientation((tmp_path / "a.jpg").read_bytes(), 6))
    (tmp_path / "text.jpg").write_bytes(b"not an image")
    return tmp_path


def test_sizes_digests_and_errors(folder):
    names = ["a.jpg", "none.jpg", "copy.jpg", "text.jpg", "turned.jpg"]
    first, missing, copy, text, turned = scan_images(folder, names)
    assert (first.width, first.height, first.error, first.missing) == (40, 30, "", False)
    assert first.digest == copy.digest != turned.digest
    assert missing.missing and "none.jpg is missing" in missing.error and not missing.digest
    assert not text.missing and "text.jpg" in text.error
    assert (turned.width, turned.height) == (30, 40)


def test_annotated_size_fits_with_or_without_the_exif_rotation(folder):
    (turned,) = scan_images(folder, ["turned.jpg"])
    assert turned.fits(30, 40) and turned.fits(40, 30) and not turned.fits(40, 40)


def test_damage_is_found_by_decoding_only(folder):
    data = (folder / "a.jpg").read_bytes()
    (folder / "a.jpg").write_bytes(data[: len(data) // 2] + bytes(len(data) // 2 - 2) + data[-2:])
    assert [bool(info.error) for info in scan_images(folder, ["a.jpg"], decode=False)] == [False]
    assert [bool(info.error) for info in scan_images(folder, ["a.jpg"])] == [True]


def test_large_images_are_an_error(folder):
    assert [bool(info.error) for info in scan_images(folder, ["a.jpg"], max_pixels=1000)] == [True]


def test_images_of_a_store(folder):
    class Store:
        def read(self, path):
            if path.name == "lost":
                raise UserError("no such record")
            return (folder / "a.jpg").read_bytes()

    found, lost = scan_images(folder / "records", ["0", "lost"], store=Store())
    assert (found.width, found.height) == (40, 30) and lost.error == "no such record"
