"""Images that are damaged or oddly valued, as the check and a training tell of them."""

import io
import json
import logging

import cv2
import numpy as np
import pytest
from PIL import Image

from msdet.data.formats.coco.read import read_coco
from msdet.data.images.decode import decode_image
from msdet.data.images.notes import collected_notes
from msdet.data.loading.loaders import detection_loader
from msdet.data.transforms.pipeline import plain_pipeline
from msdet.data.validation.image_scan import scan_images
from msdet.errors import UserError


def scene(width=160, height=120, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 12, 3), np.uint8)
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(int) + rng.integers(-20, 20, 1)
    return np.clip(fine + rng.integers(-12, 12, fine.shape), 0, 255).astype(np.uint8)


def jpeg(**options):
    stream = io.BytesIO()
    Image.fromarray(scene()).save(stream, "JPEG", quality=85, **options)
    return stream.getvalue()


def with_hole(data, start, end, fill=b"\0"):
    first, last = int(len(data) * start), int(len(data) * end)
    return data[:first] + (fill * (last - first))[: last - first] + data[last:]


@pytest.mark.parametrize("hole", [(0.3, 0.6), (0.4, 0.42), (0.5, 0.9), (0.9, 0.95), (0.15, 0.98)])
def test_a_jpeg_with_a_hole_of_zeros_is_damaged(tmp_path, hole):
    (tmp_path / "a.jpg").write_bytes(with_hole(jpeg(), *hole))
    with pytest.raises(UserError, match=r"a\.jpg is damaged: a part of its data is lost"):
        decode_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}, {"subsampling": 0}])
def test_whole_jpegs_are_not_damaged(tmp_path, options):
    flat = io.BytesIO()
    Image.new("RGB", (400, 300)).save(flat, "JPEG", **options)
    for name, data in {"a.jpg": jpeg(**options), "flat.jpg": flat.getvalue(), "b.jpg": jpeg() + bytes(500)}.items():
        (tmp_path / name).write_bytes(data)
    for facts in scan_images(tmp_path, ["a.jpg", "flat.jpg", "b.jpg"]):
        assert not facts.error
        assert not facts.notes


def test_the_check_names_a_jpeg_that_libjpeg_complains_of(tmp_path, capfd):
    names = [f"{number}.jpg" for number in range(6)]
    for name in names:
        (tmp_path / name).write_bytes(jpeg())
    progressive = jpeg(progressive=True)
    (tmp_path / "1.jpg").write_bytes(with_hole(progressive, 0.9, 0.95))
    (tmp_path / "3.jpg").write_bytes(with_hole(jpeg(), 0.4, 0.6, b"\x5a\xc3\x17"))
    whole = jpeg()
    (tmp_path / "4.jpg").write_bytes(whole[:-2] + bytes(200) + whole[-2:])
    facts = dict(zip(names, scan_images(tmp_path, names), strict=True))
    assert "1.jpg is damaged: libjpeg reports" in facts["1.jpg"].error
    assert facts["3.jpg"].error or facts["3.jpg"].notes
    assert not facts["4.jpg"].error
    assert "4.jpg is damaged: libjpeg reports 'Corrupt JPEG data: " in facts["4.jpg"].notes[0].text
    assert not any(facts[name].error or facts[name].notes for name in ("0.jpg", "2.jpg", "5.jpg"))
    assert "Corrupt JPEG" not in capfd.readouterr().err


def test_what_else_is_written_to_stderr_meanwhile_appears(tmp_path, capfd):
    import os

    from msdet.data.images.decoder_messages import captured_warnings

    with captured_warnings() as complaints:
        os.write(2, b"something else\nCorrupt JPEG data: bad Huffman code\n")
    assert complaints == ["Corrupt JPEG data: bad Huffman code"]
    assert capfd.readouterr().err == "something else\n"


def deep(low, high):
    return np.linspace(low, high, 48 * 64).reshape(48, 64).round().astype(np.uint16)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("low", "high", "tone"),
    [(16, 4080, "nearly black"), (0, 1023, "nearly black"), (21000, 23000, "nearly uniform"), (0, 65535, "")],
)
def test_values_that_use_little_of_sixteen_bits_are_named(tmp_path, suffix, channels, low, high, tone):
    pixels = deep(low, high) if channels == 1 else np.dstack([deep(low, high)] * 3)
    assert cv2.imwrite(str(tmp_path / f"a.{suffix}"), pixels)
    with collected_notes() as notes:
        decode_image(tmp_path / f"a.{suffix}")
    if not tone:
        assert not notes
        return
    (note,) = notes
    assert f"a.{suffix} has 16 bits per channel, but its values range from {low} to {high}" in note.text
    assert tone in note.text


def dataset(tmp_path, images):
    """A COCO file over images; each entry: name -> (pixels, EXIF orientation, annotated size)."""
    entries = []
    for number, (name, (pixels, orientation, size)) in enumerate(images.items(), 1):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(tmp_path / name, exif=exif)
        entries.append({"id": number, "file_name": name, **({"width": size[0], "height": size[1]} if size else {})})
    content = {"images": entries, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "train.json").write_text(json.dumps(content))
    return read_coco(tmp_path / "train.json", tmp_path)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_training_names_odd_images_once(tmp_path, caplog, workers):
    rgb = scene(60, 40)
    images = {
        "upside.jpg": (rgb, 3, (60, 40)),
        "mirrored.png": (rgb, 2, None),
        "stored.jpg": (rgb, 6, (60, 40)),
        "turned.jpg": (rgb, 6, (40, 60)),
        "unknown.jpg": (rgb, 8, None),
        "dark.png": (deep(0, 4000), 1, (64, 48)),
    }
    data = dataset(tmp_path, images)
    assert [(sample.width, sample.height) for sample in data.samples][4] == (40, 60)
    options = {"training": True, "num_workers": workers}
    with (
        caplog.at_level(logging.WARNING),
        detection_loader(data, plain_pipeline(), 2, [(32, 32)], **options) as loader,
    ):
        for epoch in range(2):
            assert len(list(loader.epoch(epoch))) == 3
    said = [record.getMessage() for record in caplog.records]
    for name in ("upside.jpg", "mirrored.png", "stored.jpg", "dark.png"):
        assert sum(name in line for line in said) == 1, said
    assert not any(name in line for line in said for name in ("turned.jpg", "unknown.jpg"))


def test_many_odd_images_are_named_by_the_first_few(tmp_path, caplog):
    data = dataset(tmp_path, {f"{number}.jpg": (scene(60, 40), 3, (60, 40)) for number in range(9)})
    with caplog.at_level(logging.WARNING), detection_loader(data, plain_pipeline(), 3, [(32, 32)], training=False,
                                                       num_workers=0) as loader:  # fmt: skip
        list(loader.epoch(0))
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 6
    assert "msdet check lists them all" in said[-1]
