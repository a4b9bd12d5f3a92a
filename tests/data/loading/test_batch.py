"""Batches of detectors: padding, crowds, and images that cannot be read."""

import logging

import numpy as np
import pytest

from msdet.data.formats.coco.read import read_coco
from msdet.data.loading.batch import pad_targets
from msdet.data.loading.loaders import detection_loader
from msdet.data.transforms.pipeline import plain_pipeline
from msdet.errors import UserError


@pytest.fixture
def damaged(coco):
    """Eight images with one box each; the second and third cannot be read."""
    for number in range(8):
        coco.add_image(number, boxes=[[1 + number, 2, 30, 20]])
    dataset = read_coco(*coco.write())
    (coco.image_dir / "1.jpg").write_bytes(b"not an image")
    (coco.image_dir / "2.jpg").unlink()
    return dataset


def batches(dataset, training, workers=0, **options):
    options = {"on_bad_image": "skip", **options}
    with detection_loader(
        dataset, plain_pipeline(), 4, [(64, 64)], training=training, shuffle=False, num_workers=workers, **options
    ) as loader:
        return [(batch.image_ids, batch.images.copy(), batch.boxes, batch.labels) for batch in loader.epoch(2)]


@pytest.mark.parametrize("workers", [0, 2])
def test_training_replaces_unreadable_images_by_the_next(damaged, caplog, workers):
    caplog.set_level(logging.WARNING)
    first, second = batches(damaged, True, workers)
    for position in (1, 2):
        np.testing.assert_array_equal(first[1][position], first[1][3])
        np.testing.assert_array_equal(first[2][position], first[2][3])
    assert (second[3][:, 0] == 0).all()
    assert "epoch 3 skipped 2 images: " in caplog.text
    assert "1.jpg is not a supported image" in caplog.text
    assert "2.jpg is missing" in caplog.text


def test_evaluation_replaces_unreadable_images_by_grey(damaged, caplog):
    first, _ = batches(damaged, False)
    assert first[0] == [0, 1, 2, 3]
    assert (first[1][1:3] == 128).all()
    assert (first[3][1:3] == -1).all()
    assert (first[3][[0, 3], 0] == 0).all()
    assert "epoch 3 skipped 2 images" in caplog.text


@pytest.mark.parametrize("training", [True, False])
def test_unreadable_image_is_an_error_by_default(damaged, training):
    with pytest.raises(UserError, match=r"1.jpg is not a supported image \(annotated in .*train.json\)"):
        batches(damaged, training, on_bad_image="error")


def test_dataset_without_readable_images_is_an_error(coco):
    coco.add_image(1, boxes=[[1, 2, 30, 20]])
    dataset = read_coco(*coco.write())
    (coco.image_dir / "1.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="1.jpg is empty"):
        batches(dataset, True)


def test_missing_disk_is_an_error(coco):
    for number in range(20):
        coco.add_image(number)
    dataset = read_coco(*coco.write())
    for path in coco.image_dir.iterdir():
        path.unlink()
    with pytest.raises(UserError, match="0.jpg is missing .*; the 16 images after it cannot be used either"):
        batches(dataset, True)


@pytest.mark.parametrize(("longest", "rows"), [(0, 4), (4, 4), (5, 8), (8, 8), (9, 16), (40, 64)])
def test_padding_doubles_until_all_fit(longest, rows):
    lists = [np.ones((longest, 4), np.float32), np.ones((1, 4), np.float32)]
    labels = [np.zeros(longest, np.int32), np.zeros(1, np.int32)]
    boxes, classes = pad_targets(lists, labels, 4)
    assert boxes.shape == (2, rows, 4)
    assert classes.shape == (2, rows)
    assert (boxes.dtype, classes.dtype) == (np.float32, np.int32)
    assert (classes[0] >= 0).sum() == longest
    assert (classes[1, 1:] == -1).all()
    assert not boxes[1, 1:].any()


def test_crowds_are_not_targets(coco):
    coco.add_image(1, boxes=[[1, 1, 9, 9]])
    coco.add_box(1, [20, 20, 9, 9], iscrowd=1)
    coco.add_image(2)
    coco.add_box(2, [20, 20, 9, 9], iscrowd=1)
    dataset = read_coco(*coco.write())
    for training in (True, False):
        with detection_loader(
            dataset, plain_pipeline(), 2, [(32, 32)], training=training, shuffle=False, num_workers=0, max_boxes=3
        ) as loader:
            batch = next(loader.epoch(0))
            assert (batch.labels >= 0).sum(axis=1).tolist() == [1, 0]
            assert batch.boxes.shape == (2, 3, 4)
