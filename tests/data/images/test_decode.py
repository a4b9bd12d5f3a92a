"""Decoding of image files: formats, orientation, and messages for unreadable files."""

import io
import re
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from msdet.data.images.decode import decode_image, read_image_size
from msdet.data.images.notes import collected_notes
from msdet.errors import UserError
from tests.data.images.samples import gradient, save, save_with_orientation, smooth_noise

ROOT = Path(__file__).parents[3]
SUFFIXES = [".jpg", ".png", ".bmp", ".webp", ".tiff"]


def with_orientation(jpeg, orientation, order="<"):
    tag = b"II*\0" if order == "<" else b"MM\0*"
    tiff = tag + struct.pack(f"{order}IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff + jpeg[2:]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_formats_are_decoded_as_rgb(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", gradient())
    image = decode_image(path, size=(60, 40))
    assert image.shape == (40, 60, 3)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - gradient()).mean() < 6
    assert read_image_size(path) == (60, 40)


def test_progressive_jpeg_and_lossless_webp(tmp_path):
    path = save(tmp_path / "a.jpg", gradient(), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    assert decode_image(path).shape == (40, 60, 3)
    path = save(tmp_path / "a.webp", gradient(), [cv2.IMWRITE_WEBP_QUALITY, 101])
    assert read_image_size(path) == (60, 40)
    np.testing.assert_array_equal(decode_image(path), gradient())


def test_grey_alpha_and_sixteen_bits(tmp_path):
    grey = gradient()[..., 0]
    image = decode_image(save(tmp_path / "grey.png", grey))
    np.testing.assert_array_equal(image, np.repeat(grey[..., None], 3, axis=2))
    assert decode_image(save(tmp_path / "grey.jpg", grey)).shape == (40, 60, 3)
    alpha = np.dstack([gradient(), np.full((40, 60), 10, np.uint8)])
    np.testing.assert_array_equal(decode_image(save(tmp_path / "alpha.png", alpha)), gradient())
    deep = gradient().astype(np.uint16) * 257
    np.testing.assert_array_equal(decode_image(save(tmp_path / "deep.png", deep)), gradient())


def test_cmyk_jpeg(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    pil.fromarray(gradient()).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    image = decode_image(tmp_path / "a.jpg", size=(60, 40))
    assert np.abs(image.astype(int) - gradient()).mean() < 8


def test_gif_and_palette(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    pil.fromarray(gradient()).convert("P").save(tmp_path / "a.png")
    assert np.abs(decode_image(tmp_path / "a.png").astype(int) - gradient()).mean() < 30
    pil.fromarray(gradient()).save(tmp_path / "a.gif")
    assert read_image_size(tmp_path / "a.gif") == (60, 40)
    with pytest.raises(UserError, match="a.gif is a GIF.*convert it to PNG"):
        decode_image(tmp_path / "a.gif")


def test_another_size_than_annotated_is_an_error(tmp_path):
    path = save(tmp_path / "a.jpg", gradient())
    with pytest.raises(UserError, match="60x40 pixels, its annotation has 120x80"):
        decode_image(path, size=(120, 80))
    assert decode_image(path, size=(0, 0)).shape == (40, 60, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_truncated_files_are_rejected(tmp_path, suffix, share):
    path = save(tmp_path / f"a{suffix}", np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match=r"a\..* is truncated"):
        decode_image(path)


def test_a_truncated_jpeg_with_a_whole_thumbnail_is_truncated(tmp_path):
    thumbnail = save(tmp_path / "t.jpg", gradient(16, 16)).read_bytes()
    jpeg = save(tmp_path / "a.jpg", np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)).read_bytes()
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 8) + b"Thumb\0" + thumbnail
    whole = jpeg[:2] + segment + jpeg[2:]
    (tmp_path / "a.jpg").write_bytes(whole[:-200])
    with pytest.raises(UserError, match="is truncated"):
        decode_image(tmp_path / "a.jpg")
    # Bytes after the end are common (cameras write there) and harmless.
    (tmp_path / "a.jpg").write_bytes(whole + b"\0" * 100)
    assert decode_image(tmp_path / "a.jpg").shape == (80, 90, 3)
    assert read_image_size(tmp_path / "a.jpg") == (90, 80)


def test_progressive_jpeg_with_bytes_after_its_end(tmp_path):
    path = save(tmp_path / "a.jpg", gradient(), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    whole = path.read_bytes()
    path.write_bytes(whole + b"trailer")
    assert decode_image(path).shape == (40, 60, 3)
    path.write_bytes(whole[:-40])
    with pytest.raises(UserError, match="is truncated"):
        decode_image(path)


@pytest.mark.parametrize("start", [0, 1, 2, 3, 10, 20, 30])
def test_truncated_headers_are_rejected(tmp_path, start):
    for suffix in (".jpg", ".png", ".bmp", ".webp"):
        path = save(tmp_path / f"a{suffix}", gradient())
        path.write_bytes(path.read_bytes()[:start])
        with pytest.raises(UserError):
            decode_image(path)
        with pytest.raises(UserError):
            # The size may be in the first bytes; then there is no error.
            read_image_size(path)
            raise UserError("size is readable")


def test_messages_name_the_image_and_its_annotations(tmp_path):
    ann_file = tmp_path / "train.json"
    cases = {"empty.jpg": (b"", "is empty"), "text.jpg": (b"hello" * 99, "is not a supported image")}
    for name, (content, expected) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError) as caught:
            decode_image(tmp_path / name, ann_file=ann_file)
        assert expected in str(caught.value)
        assert str(tmp_path / name) in str(caught.value)
        assert str(ann_file) in str(caught.value)
        with pytest.raises(UserError):
            read_image_size(tmp_path / name)
    for reader in (decode_image, read_image_size):
        with pytest.raises(UserError, match=r"none\.jpg is missing \(annotated in .*train\.json\)"):
            reader(tmp_path / "none.jpg", ann_file=ann_file)
        with pytest.raises(UserError, match="cannot be read"):
            reader(tmp_path)


def test_damaged_files_are_rejected(tmp_path):
    path = save(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8))
    data = bytearray(path.read_bytes())
    data[60:200] = bytes(140)
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"a\.png"):
        decode_image(path)


def test_real_images(data_dir):
    for path in sorted((data_dir / "demo_images").glob("*.jpg")):
        image = decode_image(path)
        assert read_image_size(path) == (image.shape[1], image.shape[0])


SAVE_OPTIONS = {"jpg": {"quality": 95}, "png": {}, "webp": {"lossless": True}, "tiff": {"compression": "tiff_lzw"}}


def upright(path):
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", SAVE_OPTIONS)
def test_orientations_are_applied_as_by_pillow(tmp_path, suffix, orientation):
    path = save_with_orientation(tmp_path / f"a.{suffix}", orientation)
    want = upright(path)
    image = decode_image(path)
    assert image.flags.c_contiguous
    assert image.shape == want.shape
    # The JPEG decoders of two libraries round differently.
    assert np.abs(image.astype(int) - want).max() <= (3 if suffix == "jpg" else 0)
    size = (want.shape[1], want.shape[0])
    assert read_image_size(path) == size
    np.testing.assert_array_equal(decode_image(path, size=size), image)
    np.testing.assert_array_equal(decode_image(path, size=(0, 0)), image)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", SAVE_OPTIONS)
def test_an_annotated_size_that_contradicts_exif_keeps_the_stored_pixels(tmp_path, suffix, orientation):
    path = save_with_orientation(tmp_path / f"a.{suffix}", orientation)
    stored = decode_image(save_with_orientation(tmp_path / f"b.{suffix}", 1))
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
def test_orientations_of_cameras_give_no_note(tmp_path, orientation):
    path = save_with_orientation(tmp_path / "a.jpg", orientation)
    with collected_notes() as notes:
        decode_image(path, size=read_image_size(path))
    assert not notes


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_invalid_orientations_are_ignored(tmp_path, value):
    path = save_with_orientation(tmp_path / "a.jpg", value)
    np.testing.assert_array_equal(decode_image(path), decode_image(save_with_orientation(tmp_path / "b.jpg", 1)))


def test_a_square_image_is_rotated(tmp_path):
    square = smooth_noise(40, 40)
    path = save_with_orientation(tmp_path / "a.png", 6, square)
    np.testing.assert_array_equal(decode_image(path, size=(40, 40)), np.rot90(square, -1))


def test_tiff_of_16_bits_is_rotated(tmp_path):
    grey = smooth_noise()[..., 0]
    turned = {1: grey, 2: grey[:, ::-1], 3: np.rot90(grey, 2), 4: grey[::-1], 5: grey.T, 6: np.rot90(grey, -1),
              7: np.rot90(grey, 2).T, 8: np.rot90(grey)}  # fmt: skip
    exif = Image.Exif()
    for orientation, want in turned.items():
        exif[0x0112] = orientation
        Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "a.tiff", exif=exif)
        np.testing.assert_array_equal(decode_image(tmp_path / "a.tiff")[..., 0], want)


@pytest.mark.parametrize("name", ["a.jpg", "a.jp2"])
@pytest.mark.parametrize("options", [{}, {"irreversible": True, "quality_mode": "dB", "quality_layers": [38]}])
def test_jpeg_2000_never_reaches_opencv(tmp_path, monkeypatch, name, options):
    rgb = cv2.resize(
        np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8), (60, 40), None, 0, 0, cv2.INTER_CUBIC
    )
    for container in (True, False):
        stream = io.BytesIO()
        Image.fromarray(rgb).save(stream, "JPEG2000", no_jp2=not container, **options)
        (tmp_path / name).write_bytes(stream.getvalue())
        by_opencv = cv2.imdecode(np.frombuffer(stream.getvalue(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        with monkeypatch.context() as patch:
            patch.setattr(cv2, "imdecode", None)
            image = decode_image(tmp_path / name, size=(60, 40))
        assert np.abs(image.astype(int) - by_opencv).max() <= 1
        assert read_image_size(tmp_path / name) == (60, 40)


def test_opencv_reads_files_in_two_places_only():
    calls = re.compile(r"cv2\.(imread|imdecode|imcount|VideoCapture|Animation|imreadanimation)\w*\(")
    found = {
        path.relative_to(ROOT).as_posix(): {match[1] for match in calls.finditer(path.read_text(encoding="utf-8"))}
        for path in [*ROOT.glob("*.py"), *(ROOT / "src").rglob("*.py")]
    }
    assert {name: what for name, what in found.items() if what} == {
        "src/msdet/data/images/decode.py": {"imdecode"},  # after the signature of the file was checked
        "src/msdet/data/images/sources.py": {"VideoCapture"},  # files through FFmpeg only
    }


def test_jpeg_2000_with_grey_alpha_and_16_bits(tmp_path):
    grey = np.linspace(0, 255, 40 * 60).reshape(40, 60).astype(np.uint8)
    for pixels in (grey, np.dstack([grey, grey[::-1], 255 - grey, grey[:, ::-1]]), grey.astype(np.uint16) * 257):
        Image.fromarray(pixels).save(tmp_path / "a.jp2")
        image = decode_image(tmp_path / "a.jp2")
        want = np.repeat(grey[..., None], 3, axis=2) if pixels.ndim == 2 else pixels[..., :3]
        np.testing.assert_array_equal(image, want)


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_truncated_jpeg_2000_is_rejected(tmp_path, share):
    noise = np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jp2")
    data = (tmp_path / "a.jp2").read_bytes()
    (tmp_path / "a.jp2").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match="a.jp2 is truncated"):
        decode_image(tmp_path / "a.jp2")


def test_pnm_of_any_kind_and_depth(tmp_path):
    grey = np.linspace(0, 255, 40 * 60).reshape(40, 60).astype(np.uint8)
    cases = {
        "a.pgm": b"P5\n# a comment\n60 40\n255\n" + grey.tobytes(),
        "b.pgm": b"P2\n60 40\n255\n" + b" ".join(b"%d" % value for value in grey.ravel()),
        "c.pgm": b"P5\n60 40\n65535\n" + (grey.astype(np.uint16) * 257).astype(">u2").tobytes(),
    }
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        np.testing.assert_array_equal(decode_image(tmp_path / name), np.repeat(grey[..., None], 3, axis=2))
    # 12 bits in 16: the maximum in the header is respected.
    (tmp_path / "d.pgm").write_bytes(b"P5\n60 40\n4095\n" + (grey.astype(np.uint16) * 16).astype(">u2").tobytes())
    assert np.abs(decode_image(tmp_path / "d.pgm")[..., 0].astype(int) - grey).max() <= 1


@pytest.mark.parametrize("kind", [np.float32, np.int32, np.int16, np.float64])
def test_signed_and_floating_point_images_are_rejected(tmp_path, kind):
    assert cv2.imwrite(str(tmp_path / "a.tiff"), np.ones((8, 8), kind))
    with pytest.raises(UserError, match="a.tiff contains signed or floating-point numbers of .* convert it to 8 bits"):
        decode_image(tmp_path / "a.tiff")
