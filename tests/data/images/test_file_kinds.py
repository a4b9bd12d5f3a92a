"""Names of unsupported images and of videos by their first bytes."""

import io

import pytest
from PIL import Image

from msdet.data.images.decode import decode_image
from msdet.data.images.file_kinds import unsupported_image_format, video_container
from msdet.errors import UserError


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(99), "HEIC"),
        (b"\0\0\0\x18ftypavif" + bytes(99), "AVIF"),
        (b"8BPS\0\1", "Photoshop"),
        (b"%PDF-1.4", "PDF"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (b"\0\0\0\x18ftypisom" + bytes(99), ""),
        (b"hello", ""),
        (b"", ""),
    ],
)
def test_unsupported_images(data, name):
    assert unsupported_image_format(data) == name


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x18ftypisom" + bytes(99), "MP4 or QuickTime"),
        (b"\0\0\0\x18ftypqt  " + bytes(99), "MP4 or QuickTime"),
        (b"\0\0\0\x18ftypheic" + bytes(99), ""),
        (b"\0\0\0\x08wide\0\0\0\0mdat", "QuickTime"),
        (b"RIFF\0\0\0\0AVI LIST", "AVI"),
        (b"RIFF\0\0\0\0WEBPVP8 ", ""),
        (b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
        ((b"G" + bytes(187)) * 4, "MPEG transport stream"),
        ((bytes(4) + b"G" + bytes(187)) * 4, "MPEG transport stream"),
        (b"GIF89a", ""),
        (b"", ""),
    ],
)
def test_videos(data, name):
    assert video_container(data) == name


def test_messages_name_the_format(tmp_path):
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "ICO")
    for data, message in ((stream.getvalue(), "unsupported format Windows icon"), (b"OggS", "but a video .Ogg.")):
        (tmp_path / "a.jpg").write_bytes(data)
        with pytest.raises(UserError, match=message):
            decode_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("name", ["HEIC", "AVIF"])
def test_messages_say_how_to_convert_images_of_phones(tmp_path, name):
    brand = {"HEIC": b"heic", "AVIF": b"avif"}[name]
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftyp" + brand + bytes(99))
    with pytest.raises(UserError, match=f"has the unsupported format {name}: convert it to JPEG or PNG"):
        decode_image(tmp_path / "a.jpg")
