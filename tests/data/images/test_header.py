"""Headers of image files: size, orientation and what must not be decoded."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from msdet.data.images.damage import is_truncated
from msdet.data.images.decode import decode_image, read_image_size
from msdet.data.images.header import read_header
from msdet.errors import UserError
from tests.data import hostile
from tests.data.images.samples import gradient, save, save_with_orientation, smooth_noise
from tests.data.limited import limited


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
def test_sizes(tmp_path, suffix):
    for width, height in [(1, 1), (17, 300), (300, 17)]:
        data = save(tmp_path / f"a{suffix}", gradient(width, height)).read_bytes()
        header = read_header(data)
        assert (header.width, header.height) == (width, height)
        assert not is_truncated(data, header)


def test_bmp_with_rows_from_top_to_bottom(tmp_path):
    """Such a BMP has a negative height."""
    path = save(tmp_path / "a.bmp", gradient())
    data = bytearray(path.read_bytes())
    rows = np.frombuffer(data, np.uint8, 40 * 180, 54).reshape(40, 180)[::-1].tobytes()
    data[22:26], data[54 : 54 + len(rows)] = struct.pack("<i", -40), rows
    path.write_bytes(data)
    assert read_image_size(path) == (60, 40)
    np.testing.assert_array_equal(decode_image(path, size=(60, 40)), gradient())


def test_jpeg_with_fill_bytes_before_its_markers(tmp_path):
    """Any number of FF bytes is allowed there (ITU-T T.81, B.1.1.2)."""
    data = save(tmp_path / "a.jpg", gradient()).read_bytes()
    padded = data[:2] + b"\xff\xff" + data[2:]
    header = read_header(padded)
    assert (header.width, header.height) == (60, 40)
    assert not is_truncated(padded, header) and is_truncated(padded[:-2], header)


def test_large_images_are_rejected_by_their_header(tmp_path):
    path = save(tmp_path / "a.png", gradient())
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match="60000x60000 pixels, more than max_image_pixels=178956970"):
        decode_image(path)
    small = save(tmp_path / "b.tiff", gradient())
    with pytest.raises(UserError, match="60x40 pixels, more than max_image_pixels=100"):
        decode_image(small, max_pixels=100)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
def test_exif_of_both_byte_orders_and_integer_types(order, kind):
    tag = b"II*\0" if order == "<" else b"MM\0*"
    value = struct.pack(order + "HH", 6, 0) if kind == 3 else struct.pack(order + "I", 6)
    exif = b"Exif\0\0" + tag + struct.pack(order + "IHHHI", 8, 1, 0x0112, kind, 1) + value + bytes(4)
    stream = io.BytesIO()
    Image.fromarray(smooth_noise()).save(stream, "JPEG")
    jpeg = stream.getvalue()
    data = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
    assert read_header(data).orientation == 6


def test_png_with_exif_after_its_pixels(tmp_path):
    noise = np.random.default_rng(1).integers(0, 256, (150, 300, 3), np.uint8)
    path = save_with_orientation(tmp_path / "a.png", 6, noise)
    data = path.read_bytes()
    start = data.index(b"eXIf") - 4
    (length,) = struct.unpack_from(">I", data, start)
    chunk = data[start : start + 12 + length]
    rest = data[:start] + data[start + len(chunk) :]
    path.write_bytes(rest[:-12] + chunk + rest[-12:])
    assert path.stat().st_size > 65_536
    assert read_image_size(path) == (150, 300)
    np.testing.assert_array_equal(decode_image(path), np.rot90(noise, -1))
    # The same four letters in other data are not a chunk.
    body = b"eXIf" + zlib.compress(b"x")
    path.write_bytes(rest[:-12] + struct.pack(">I", len(body)) + b"teXt" + body + bytes(4) + rest[-12:])
    assert read_image_size(path) == (300, 150)


def test_webp_with_exif_after_its_pixels(tmp_path):
    noise = np.random.default_rng(1).integers(0, 256, (150, 300, 3), np.uint8)
    path = save_with_orientation(tmp_path / "a.webp", 8, noise)
    assert path.stat().st_size > 65_536
    assert read_image_size(path) == (150, 300)


def test_small_files_never_need_much_memory(tmp_path):
    code = """
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        read_image_size(path)
    except UserError:
        pass
    try:
        decode_image(path, max_pixels=1_000_000)
        print("decoded", path)
    except UserError as error:
        print(error)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    assert grown < 50, f"{path}: {grown} MB"
"""
    expected = hostile.files()
    for name, (data, _) in expected.items():
        assert len(data) < 4096
        (tmp_path / name).write_bytes(data)
    output = limited(code, tmp_path)
    for name, (_, message) in expected.items():
        (line,) = [line for line in output.splitlines() if f"/{name} " in line]
        assert message in line


def test_truncated_headers_are_rejected(tmp_path):
    whole = {name: data for name, (data, _) in hostile.files().items() if read_header(data) is not None}
    assert len(whole) > 10
    for name, data in whole.items():
        for length in range(0, len(data), 3):
            (tmp_path / name).write_bytes(data[:length])
            with pytest.raises(UserError):
                decode_image(tmp_path / name, max_pixels=1_000_000)


def test_big_tiff_old_bmp_and_animated_images(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    frames = [Image.fromarray(rgb), Image.fromarray(255 - rgb)]
    frames[0].save(tmp_path / "big.tiff", big_tiff=True)
    (tmp_path / "old.bmp").write_bytes(
        b"BM" + (26 + rgb.size).to_bytes(4, "little") + bytes(4) + bytes.fromhex("1a0000000c0000003c00280001001800")
        + rgb[::-1, :, ::-1].tobytes()
    )  # fmt: skip
    for name, options in (("a.png", {}), ("a.webp", {"lossless": True})):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    for name in ("big.tiff", "old.bmp", "a.png", "a.webp"):
        np.testing.assert_array_equal(decode_image(tmp_path / name, size=(60, 40)), rgb)
        assert read_image_size(tmp_path / name) == (60, 40)
