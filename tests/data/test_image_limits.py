"""Which files reach a decoder, and what they may cost before."""

import io
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from msdet.data.images.decode import decode_image, read_image_size
from msdet.data.images.header import read_header
from msdet.errors import UserError
from tests.data import hostile
from tests.data.limited import limited

ROOT = Path(__file__).parents[2]


def test_no_small_file_takes_much_memory(tmp_path):
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
    said = limited(code, tmp_path)
    for name, (_, message) in expected.items():
        (line,) = [line for line in said.splitlines() if f"/{name} " in line]
        assert message in line


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


def test_opencv_gets_files_in_two_places_alone():
    calls = re.compile(r"cv2\.(imread|imdecode|imcount|VideoCapture|Animation|imreadanimation)\w*\(")
    found = {
        path.relative_to(ROOT).as_posix(): {match[1] for match in calls.finditer(path.read_text(encoding="utf-8"))}
        for path in [*ROOT.glob("*.py"), *(ROOT / "src").rglob("*.py")]
    }
    assert {name: what for name, what in found.items() if what} == {
        "src/msdet/data/images/decode.py": {"imdecode"},  # behind the signature of the file
        "src/msdet/data/images/sources.py": {"VideoCapture"},  # FFmpeg alone for files
    }


def test_grey_alpha_and_deep_jpeg_2000(tmp_path):
    grey = np.linspace(0, 255, 40 * 60).reshape(40, 60).astype(np.uint8)
    for pixels in (grey, np.dstack([grey, grey[::-1], 255 - grey, grey[:, ::-1]]), grey.astype(np.uint16) * 257):
        Image.fromarray(pixels).save(tmp_path / "a.jp2")
        image = decode_image(tmp_path / "a.jp2")
        want = np.repeat(grey[..., None], 3, axis=2) if pixels.ndim == 2 else pixels[..., :3]
        np.testing.assert_array_equal(image, want)


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_truncated_jpeg_2000(tmp_path, share):
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
    # 12 bits in 16: the header says so, and the image is as bright as it should be.
    (tmp_path / "d.pgm").write_bytes(b"P5\n60 40\n4095\n" + (grey.astype(np.uint16) * 16).astype(">u2").tobytes())
    assert np.abs(decode_image(tmp_path / "d.pgm")[..., 0].astype(int) - grey).max() <= 1


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


@pytest.mark.parametrize("kind", [np.float32, np.int32, np.int16, np.float64])
def test_numbers_without_a_black_and_white_are_refused(tmp_path, kind):
    assert cv2.imwrite(str(tmp_path / "a.tiff"), np.ones((8, 8), kind))
    with pytest.raises(UserError, match="a.tiff holds signed or floating-point numbers of .* convert it to 8 bits"):
        decode_image(tmp_path / "a.tiff")


@pytest.mark.parametrize("name", ["HEIC", "AVIF"])
def test_images_of_phones_say_what_to_convert_them_to(tmp_path, name):
    brand = {"HEIC": b"heic", "AVIF": b"avif"}[name]
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftyp" + brand + bytes(99))
    with pytest.raises(UserError, match=f"a file of {name}, which is not read: convert it to JPEG or PNG"):
        decode_image(tmp_path / "a.jpg")


def test_no_header_is_read_from_a_cut_off_file(tmp_path):
    whole = {name: data for name, (data, _) in hostile.files().items() if read_header(data) is not None}
    assert len(whole) > 10
    for name, data in whole.items():
        for length in range(0, len(data), 3):
            (tmp_path / name).write_bytes(data[:length])
            with pytest.raises(UserError):
                decode_image(tmp_path / name, max_pixels=1_000_000)


@pytest.mark.parametrize("shape", [(2, 9000), (9000, 2), (1, 16000), (2, 16000)])
def test_long_images_are_evaluated_in_little_memory(shape):
    code = """
from msdet.data.transforms.centre_crop import ResizeAndCrop
from msdet.data.transforms.pipeline import Pipeline
shape = tuple(map(int, sys.argv[1:]))
image = np.zeros((*shape, 3), np.uint8)
canvas = np.empty((224, 224, 3), np.uint8)
ResizeAndCrop()(image, np.zeros((0, 4), np.float32), np.zeros(0, np.int32), canvas, np.random.default_rng(0))
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
assert grown < 150, grown
"""
    limited(code, *shape)
