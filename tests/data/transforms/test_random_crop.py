"""Augmentation by MindSpore's operators: its effect, and that it depends only on the sample's generator."""

import cv2
import mindspore.dataset as ms_dataset
import numpy as np
import pytest

from msdet.data.formats.imagefolder import read_image_folder
from msdet.data.loading.loaders import class_loader
from msdet.data.transforms.random_crop import CropFlipColour
from msdet.errors import UserError

SIDE = 200


@pytest.fixture(scope="module")
def ramp(tmp_path_factory):
    """An image that encodes x in red and y in green; PNG, so the values are exact."""
    path = tmp_path_factory.mktemp("ramp") / "ramp.png"
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.uint8)
    cv2.imwrite(str(path), np.stack((np.full_like(x, 7), y, x), 2))
    return path


def crop(path, key, transform, side=32):
    canvas = np.empty((side, side, 3), np.uint8)
    transform(path, canvas, np.random.default_rng(key), 10**6)
    return canvas.astype(int)


def test_crops_have_the_requested_area_and_aspect(ramp):
    areas, aspects = [], []
    for key in range(150):
        image = crop(ramp, key, CropFlipColour((0.08, 1.0), (0.75, 1.333), 0, (0, 0, 0)))
        width, height = ((image[..., c].max() - image[..., c].min()) * 32 / 31 for c in (0, 1))
        areas.append(width * height / SIDE**2)
        aspects.append(width / height)
    assert min(areas) > 0.05 and max(areas) < 1.1 and 0.4 < np.mean(areas) < 0.6
    assert min(aspects) > 0.65 and max(aspects) < 1.5
    assert min(areas) < 0.2 and max(areas) > 0.8, "the whole range comes up"


def test_flip_is_independent_of_the_crop(ramp):
    transform = CropFlipColour((0.08, 1.0), (0.75, 1.333), 0.5, (0, 0, 0))
    images = [crop(ramp, key, transform) for key in range(200)]
    mirrored = np.array([image[0, 0, 0] > image[0, -1, 0] for image in images])
    small = np.array([np.ptp(image[..., 0]) < SIDE * 0.65 for image in images])
    assert 0.4 < mirrored.mean() < 0.6
    assert 0.3 < mirrored[small].mean() < 0.7 and 0.3 < mirrored[~small].mean() < 0.7
    assert not any(np.ptp(image[..., 1].mean(1)) == 0 or image[0, 0, 1] > image[-1, 0, 1] for image in images)


def test_colours_change_within_their_range(ramp):
    still = CropFlipColour((1, 1), (1, 1), 0, (0, 0, 0))
    bright = CropFlipColour((1, 1), (1, 1), 0, (0.4, 0, 0))
    base = crop(ramp, 0, still).mean()
    factors = [crop(ramp, key, bright).mean() / base for key in range(60)]
    assert 0.59 < min(factors) < 0.75 and 1.2 < max(factors) < 1.41
    assert len({round(f, 4) for f in factors}) > 50


def test_global_seed_is_restored(ramp):
    before = ms_dataset.config.get_seed()
    crop(ramp, 0, CropFlipColour())
    assert ms_dataset.config.get_seed() == before


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (root / name).mkdir()
        for i in range(6):
            cv2.imwrite(str(root / name / f"{i}.jpg"), rng.integers(0, 256, (50, 60, 3)))
    return root


def batches(folder, workers, epoch=2, start=0, **options):
    transform = CropFlipColour()
    with class_loader(read_image_folder(folder), transform, 2, [(32, 32)], training=True, seed=5, num_workers=workers,
                     **options) as loader:  # fmt: skip
        return [(batch.images.copy(), batch.labels, batch.image_ids) for batch in loader.epoch(epoch, start)]


def same(one, other):
    return len(one) == len(other) and all(
        np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) and a[2] == b[2]
        for a, b in zip(one, other, strict=True)
    )


def test_batches_do_not_depend_on_workers_or_start(folder):
    whole = batches(folder, 0)
    assert len(whole) == 6 and same(whole, batches(folder, 2)), "workers"
    assert same(whole[4:], batches(folder, 0, start=4)), "from the middle of an epoch"
    other = batches(folder, 0, epoch=3)
    images = [dict(zip(batch[2], batch[0], strict=True)) for one in (whole, other) for batch in one]
    first, second = ({k: v for batch in part for k, v in batch.items()} for part in (images[:6], images[6:]))
    assert first.keys() == second.keys() and all(not np.array_equal(first[k], second[k]) for k in first)


def test_ranks_share_the_images(folder):
    shares = [batches(folder, 0, rank=rank, group_size=2) for rank in (0, 1)]
    names = [name for share in shares for batch in share for name in batch[2]]
    assert len(names) == len(set(names)) == 12


@pytest.mark.parametrize("suffix", [".webp", ".tiff", ".jp2", ".ppm"])
def test_formats_that_mindspore_does_not_decode(ramp, tmp_path, suffix):
    lossless = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else []
    cv2.imwrite(str(tmp_path / f"ramp{suffix}"), cv2.imread(str(ramp)), lossless)
    for key in range(4):
        same_crop = crop(ramp, key, CropFlipColour())
        np.testing.assert_allclose(crop(tmp_path / f"ramp{suffix}", key, CropFlipColour()), same_crop, atol=1)


@pytest.mark.parametrize("content", [b"not an image", b"\xff\xd8\xff\xe0 half a JPEG", b""])
def test_damaged_image_is_reported(tmp_path, content):
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.jpg"):
        crop(path, 0, CropFlipColour())


def test_grey_and_cmyk_images(tmp_path):
    """ImageNet contains a few CMYK images (made here by Pillow, which comes with matplotlib)."""
    from PIL import Image

    rng = np.random.default_rng(0)
    smooth = cv2.resize(rng.integers(0, 256, (4, 4, 3)).astype(np.uint8), (64, 64))
    for kind, name in (("L", "grey.jpg"), ("CMYK", "cmyk.jpg"), ("RGBA", "alpha.png")):
        Image.fromarray(smooth).convert(kind).save(tmp_path / name)
        image = crop(tmp_path / name, 0, CropFlipColour((1, 1), (1, 1), 0, (0, 0, 0)), 64)
        expected = np.array(Image.fromarray(smooth).convert("L").convert("RGB")) if kind == "L" else smooth
        assert np.abs(image - expected).mean() < 6
