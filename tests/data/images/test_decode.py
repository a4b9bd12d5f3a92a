"""Image files of all kinds, good and bad."""

import struct

import cv2
import numpy as np
import pytest

from msdet.data.images.damage import is_truncated
from msdet.data.images.decode import decode_image, read_image_size
from msdet.data.images.header import read_header
from msdet.errors import UserError

FORMATS = [".jpg", ".png", ".bmp", ".webp", ".tiff"]


def picture(width=60, height=40):
    columns = np.linspace(0, 255, width)[None, :, None]
    rows = np.linspace(0, 255, height)[:, None, None]
    return np.concatenate(np.broadcast_arrays(columns, rows, 255 - columns), axis=2).astype(np.uint8)


def save(path, rgb, *options):
    pixels = rgb if rgb.ndim == 2 else rgb[..., [2, 1, 0, *range(3, rgb.shape[2])]]
    assert cv2.imwrite(str(path), pixels, *options)
    return path


def with_orientation(jpeg, orientation, order="<"):
    tag = b"II*\0" if order == "<" else b"MM\0*"
    tiff = tag + struct.pack(f"{order}IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff + jpeg[2:]


@pytest.mark.parametrize("suffix", FORMATS)
def test_formats_come_out_as_rgb(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", picture())
    image = decode_image(path, size=(60, 40))
    assert image.shape == (40, 60, 3)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - picture()).mean() < 6
    assert read_image_size(path) == (60, 40)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
def test_headers_agree_with_the_decoder(tmp_path, suffix):
    for width, height in [(1, 1), (17, 300), (300, 17)]:
        data = save(tmp_path / f"a{suffix}", picture(width, height)).read_bytes()
        header = read_header(data)
        assert (header.width, header.height) == (width, height)
        assert not is_truncated(data, header)


def test_progressive_jpeg_and_lossless_webp(tmp_path):
    path = save(tmp_path / "a.jpg", picture(), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    assert decode_image(path).shape == (40, 60, 3)
    path = save(tmp_path / "a.webp", picture(), [cv2.IMWRITE_WEBP_QUALITY, 101])
    assert read_image_size(path) == (60, 40)
    np.testing.assert_array_equal(decode_image(path), picture())


def test_grey_alpha_and_sixteen_bits(tmp_path):
    grey = picture()[..., 0]
    image = decode_image(save(tmp_path / "grey.png", grey))
    np.testing.assert_array_equal(image, np.repeat(grey[..., None], 3, axis=2))
    assert decode_image(save(tmp_path / "grey.jpg", grey)).shape == (40, 60, 3)
    alpha = np.dstack([picture(), np.full((40, 60), 10, np.uint8)])
    np.testing.assert_array_equal(decode_image(save(tmp_path / "alpha.png", alpha)), picture())
    deep = picture().astype(np.uint16) * 257
    np.testing.assert_array_equal(decode_image(save(tmp_path / "deep.png", deep)), picture())


def test_cmyk_jpeg(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    pil.fromarray(picture()).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    image = decode_image(tmp_path / "a.jpg", size=(60, 40))
    assert np.abs(image.astype(int) - picture()).mean() < 8


def test_gif_and_palette(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    pil.fromarray(picture()).convert("P").save(tmp_path / "a.png")
    assert np.abs(decode_image(tmp_path / "a.png").astype(int) - picture()).mean() < 30
    pil.fromarray(picture()).save(tmp_path / "a.gif")
    assert read_image_size(tmp_path / "a.gif") == (60, 40)
    with pytest.raises(UserError, match="a.gif is a GIF.*convert it to PNG"):
        decode_image(tmp_path / "a.gif")


def test_another_size_than_annotated_is_an_error(tmp_path):
    path = save(tmp_path / "a.jpg", picture())
    with pytest.raises(UserError, match="60x40 pixels, its annotation has 120x80"):
        decode_image(path, size=(120, 80))
    assert decode_image(path, size=(0, 0)).shape == (40, 60, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_truncated_files_are_no_images(tmp_path, suffix, share):
    path = save(tmp_path / f"a{suffix}", np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match=r"a\..* is truncated"):
        decode_image(path)


def test_a_truncated_jpeg_with_a_whole_thumbnail_is_truncated(tmp_path):
    thumbnail = save(tmp_path / "t.jpg", picture(16, 16)).read_bytes()
    jpeg = save(tmp_path / "a.jpg", np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)).read_bytes()
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 8) + b"Thumb\0" + thumbnail
    whole = jpeg[:2] + segment + jpeg[2:]
    (tmp_path / "a.jpg").write_bytes(whole[:-200])
    with pytest.raises(UserError, match="is truncated"):
        decode_image(tmp_path / "a.jpg")
    # Bytes behind the end are common (cameras write there) and harmless.
    (tmp_path / "a.jpg").write_bytes(whole + b"\0" * 100)
    assert decode_image(tmp_path / "a.jpg").shape == (80, 90, 3)
    assert read_image_size(tmp_path / "a.jpg") == (90, 80)


def test_progressive_jpeg_with_bytes_behind_its_end(tmp_path):
    path = save(tmp_path / "a.jpg", picture(), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    whole = path.read_bytes()
    path.write_bytes(whole + b"trailer")
    assert decode_image(path).shape == (40, 60, 3)
    path.write_bytes(whole[:-40])
    with pytest.raises(UserError, match="is truncated"):
        decode_image(path)


@pytest.mark.parametrize("start", [0, 1, 2, 3, 10, 20, 30])
def test_a_header_that_is_cut_off_is_no_image(tmp_path, start):
    for suffix in (".jpg", ".png", ".bmp", ".webp"):
        path = save(tmp_path / f"a{suffix}", picture())
        path.write_bytes(path.read_bytes()[:start])
        with pytest.raises(UserError):
            decode_image(path)
        with pytest.raises(UserError):
            # A size can be told from the first bytes alone, but then the format says so.
            read_image_size(path)
            raise UserError("told")


def test_bad_files_are_named_with_their_annotations(tmp_path):
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


def test_a_damaged_file_is_named(tmp_path):
    path = save(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8))
    data = bytearray(path.read_bytes())
    data[60:200] = bytes(140)
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"a\.png"):
        decode_image(path)


def test_huge_images_are_refused_by_their_header(tmp_path):
    path = save(tmp_path / "a.png", picture())
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match="60000x60000 pixels, more than max_image_pixels=178956970"):
        decode_image(path)
    small = save(tmp_path / "b.tiff", picture())
    with pytest.raises(UserError, match="60x40 pixels, more than max_image_pixels=100"):
        decode_image(small, max_pixels=100)


def test_real_images(data_dir):
    for path in sorted((data_dir / "demo_images").glob("*.jpg")):
        image = decode_image(path)
        assert read_image_size(path) == (image.shape[1], image.shape[0])


def test_a_bitmap_from_top_to_bottom_has_its_size(tmp_path):
    """A negative height says so."""
    path = save(tmp_path / "a.bmp", picture())
    data = bytearray(path.read_bytes())
    rows = np.frombuffer(data, np.uint8, 40 * 180, 54).reshape(40, 180)[::-1].tobytes()
    data[22:26], data[54 : 54 + len(rows)] = struct.pack("<i", -40), rows
    path.write_bytes(data)
    assert read_image_size(path) == (60, 40)
    np.testing.assert_array_equal(decode_image(path, size=(60, 40)), picture())


def test_a_jpeg_with_fill_bytes_before_its_markers(tmp_path):
    """Any number of FF may stand there (ITU-T T.81, B.1.1.2)."""
    data = save(tmp_path / "a.jpg", picture()).read_bytes()
    padded = data[:2] + b"\xff\xff" + data[2:]
    header = read_header(padded)
    assert (header.width, header.height) == (60, 40)
    assert not is_truncated(padded, header) and is_truncated(padded[:-2], header)
