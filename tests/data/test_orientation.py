"""Images are turned upright as their EXIF says, unless the annotated size is that of the stored pixels."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from msdet.data.images.decode import decode_image, read_image_size
from msdet.data.images.header import read_header
from msdet.data.images.notes import collected_notes
from msdet.errors import UserError

FORMATS = {"jpg": {"quality": 95}, "png": {}, "webp": {"lossless": True}, "tiff": {"compression": "tiff_lzw"}}


def picture(width=60, height=40):
    coarse = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def save(path, orientation, rgb=None):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture() if rgb is None else rgb).save(path, exif=exif, **FORMATS[path.suffix[1:]])
    return path


def upright(path):
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", FORMATS)
def test_every_orientation_is_turned_as_pillow_turns_it(tmp_path, suffix, orientation):
    path = save(tmp_path / f"a.{suffix}", orientation)
    want = upright(path)
    image = decode_image(path)
    assert image.flags.c_contiguous
    assert image.shape == want.shape
    # The JPEG decoders of two libraries differ by a rounding.
    assert np.abs(image.astype(int) - want).max() <= (3 if suffix == "jpg" else 0)
    size = (want.shape[1], want.shape[0])
    assert read_image_size(path) == size
    np.testing.assert_array_equal(decode_image(path, size=size), image)
    np.testing.assert_array_equal(decode_image(path, size=(0, 0)), image)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", FORMATS)
def test_an_annotated_size_that_contradicts_keeps_the_stored_pixels(tmp_path, suffix, orientation):
    path = save(tmp_path / f"a.{suffix}", orientation)
    stored = decode_image(save(tmp_path / f"b.{suffix}", 1))
    with collected_notes() as notes:
        image = decode_image(path, size=(60, 40))
    if orientation >= 5:
        np.testing.assert_array_equal(image, stored)
        assert "stored size 60x40" in notes[0].text
    elif orientation == 1:
        assert not notes
    else:
        assert str(path) in notes[0].text
        assert f"orientation {orientation}" in notes[0].text
        np.testing.assert_array_equal(image, decode_image(path))
    with pytest.raises(UserError, match="its annotation has 120x80"):
        decode_image(path, size=(120, 80))


@pytest.mark.parametrize("orientation", (1, 6, 8))
def test_what_cameras_write_needs_no_word(tmp_path, orientation):
    path = save(tmp_path / "a.jpg", orientation)
    with collected_notes() as notes:
        decode_image(path, size=read_image_size(path))
    assert not notes


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
def test_either_order_of_bytes_and_either_width_of_the_number(order, kind):
    tag = b"II*\0" if order == "<" else b"MM\0*"
    value = struct.pack(order + "HH", 6, 0) if kind == 3 else struct.pack(order + "I", 6)
    exif = b"Exif\0\0" + tag + struct.pack(order + "IHHHI", 8, 1, 0x0112, kind, 1) + value + bytes(4)
    stream = io.BytesIO()
    Image.fromarray(picture()).save(stream, "JPEG")
    jpeg = stream.getvalue()
    data = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
    assert read_header(data).orientation == 6


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(tmp_path, value):
    path = save(tmp_path / "a.jpg", value)
    np.testing.assert_array_equal(decode_image(path), decode_image(save(tmp_path / "b.jpg", 1)))


def test_a_png_may_tell_it_behind_its_pixels_and_far_from_its_beginning(tmp_path):
    noise = np.random.default_rng(1).integers(0, 256, (150, 300, 3), np.uint8)
    path = save(tmp_path / "a.png", 6, noise)
    data = path.read_bytes()
    start = data.index(b"eXIf") - 4
    (length,) = struct.unpack_from(">I", data, start)
    chunk = data[start : start + 12 + length]
    rest = data[:start] + data[start + len(chunk) :]
    path.write_bytes(rest[:-12] + chunk + rest[-12:])
    assert path.stat().st_size > 65_536
    assert read_image_size(path) == (150, 300)
    np.testing.assert_array_equal(decode_image(path), np.rot90(noise, -1))
    # The same four letters among the pixels are no chunk.
    body = b"eXIf" + zlib.compress(b"x")
    path.write_bytes(rest[:-12] + struct.pack(">I", len(body)) + b"teXt" + body + bytes(4) + rest[-12:])
    assert read_image_size(path) == (300, 150)


def test_a_webp_tells_it_behind_its_pixels(tmp_path):
    noise = np.random.default_rng(1).integers(0, 256, (150, 300, 3), np.uint8)
    path = save(tmp_path / "a.webp", 8, noise)
    assert path.stat().st_size > 65_536
    assert read_image_size(path) == (150, 300)


def test_a_square_image_is_turned_though_its_size_cannot_tell(tmp_path):
    square = picture(40, 40)
    path = save(tmp_path / "a.png", 6, square)
    np.testing.assert_array_equal(decode_image(path, size=(40, 40)), np.rot90(square, -1))


def test_deep_tiffs_are_turned_too(tmp_path):
    grey = picture()[..., 0]
    turned = {1: grey, 2: grey[:, ::-1], 3: np.rot90(grey, 2), 4: grey[::-1], 5: grey.T, 6: np.rot90(grey, -1),
              7: np.rot90(grey, 2).T, 8: np.rot90(grey)}  # fmt: skip
    exif = Image.Exif()
    for orientation, want in turned.items():
        exif[0x0112] = orientation
        Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "a.tiff", exif=exif)
        np.testing.assert_array_equal(decode_image(tmp_path / "a.tiff")[..., 0], want)
