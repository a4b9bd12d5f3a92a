"""Notes about doubtful images, in the decoder and in the log of a training."""

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
from tests.data.images.samples import deep, scene


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("low", "high", "tone"),
    [
        (16, 4080, "nearly black"),
        (0, 1023, "nearly black"),
        (0, 9000, "nearly black"),
        (21000, 23000, "nearly uniform"),
        (0, 65535, ""),
    ],
)
def test_images_that_use_little_of_16_bits(tmp_path, suffix, channels, low, high, tone):
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


def coco_dataset(tmp_path, images):
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
def test_a_training_logs_each_note_once(tmp_path, caplog, workers):
    rgb = scene(60, 40)
    images = {
        "upside.jpg": (rgb, 3, (60, 40)),
        "mirrored.png": (rgb, 2, None),
        "stored.jpg": (rgb, 6, (60, 40)),
        "turned.jpg": (rgb, 6, (40, 60)),
        "unknown.jpg": (rgb, 8, None),
        "dark.png": (deep(0, 4000), 1, (64, 48)),
    }
    data = coco_dataset(tmp_path, images)
    assert [(sample.width, sample.height) for sample in data.samples][4] == (40, 60)
    options = {"training": True, "num_workers": workers}
    with (
        caplog.at_level(logging.WARNING),
        detection_loader(data, plain_pipeline(), 2, [(32, 32)], **options) as loader,
    ):
        for epoch in range(2):
            assert len(list(loader.epoch(epoch))) == 3
    messages = [record.getMessage() for record in caplog.records]
    for name in ("upside.jpg", "mirrored.png", "stored.jpg", "dark.png"):
        assert sum(name in line for line in messages) == 1, messages
    assert not any(name in line for line in messages for name in ("turned.jpg", "unknown.jpg"))


def test_only_the_first_notes_are_logged(tmp_path, caplog):
    data = coco_dataset(tmp_path, {f"{number}.jpg": (scene(60, 40), 3, (60, 40)) for number in range(9)})
    with caplog.at_level(logging.WARNING), detection_loader(data, plain_pipeline(), 3, [(32, 32)], training=False,
                                                       num_workers=0) as loader:  # fmt: skip
        list(loader.epoch(0))
    messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(messages) == 6
    assert "msdet check lists them all" in messages[-1]
