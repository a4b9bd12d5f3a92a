"""Batches: independent of the number of workers, in order, and every failure ends with an error."""

import gc
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from msdet.data.formats.coco.read import read_coco
from msdet.data.images.decode import decode_image
from msdet.data.loading.loaders import detection_loader
from msdet.data.transforms.augment import Resize
from msdet.data.transforms.pipeline import Pipeline, jitter_pipeline, plain_pipeline
from msdet.data.transforms.resize import resize_for_eval
from msdet.errors import UsageError, UserError
from tests.data.loading.batches import assert_equal_batches, copies, no_workers_running

ROOT = Path(__file__).resolve().parents[3]
SIZES = [(64, 64), (96, 64), (32, 96)]


@pytest.fixture(scope="module")
def reference(dataset):
    options = {"training": True, "seed": 3, "max_boxes": 2, "drop_last": False, "resize_rate": 2}
    with detection_loader(dataset, jitter_pipeline(), 4, SIZES, num_workers=0, **options) as loader:
        return options, {epoch: copies(loader.epoch(epoch)) for epoch in (0, 1)}


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_workers_or_start(dataset, reference, workers):
    options, epochs = reference
    with detection_loader(dataset, jitter_pipeline(), 4, SIZES, num_workers=workers, **options) as loader:
        assert_equal_batches(copies(loader.epoch(0)), epochs[0])
        assert_equal_batches(copies(loader.epoch(1)), epochs[1])
        assert_equal_batches(copies(loader.epoch(1, start_batch=4)), epochs[1][4:])
        assert_equal_batches(copies(loader.epoch(1, start_batch=6)), [])
        # An abandoned epoch does not affect the next one.
        for _ in range(3):
            next(iter(loader.epoch(0)))
        assert_equal_batches(copies(loader.epoch(1)), epochs[1])


def test_epochs_have_different_orders(reference):
    _, epochs = reference
    shown = {epoch: [i for batch in batches for i in batch[6].tolist()] for epoch, batches in epochs.items()}
    assert shown[0] != shown[1] and set(shown[0]) == set(shown[1])


def test_resuming_in_process(dataset, reference):
    options, epochs = reference
    with detection_loader(dataset, jitter_pipeline(), 4, SIZES, num_workers=0, **options) as loader:
        assert_equal_batches(copies(loader.epoch(1, start_batch=3)), epochs[1][3:])


def test_fields_of_a_batch(dataset, reference):
    _, epochs = reference
    boxes_seen = 0
    for images, boxes, labels, image_ids, geometry, size, indices, _, _ in epochs[0]:
        assert images.shape == (4, *size, 3)
        assert images.dtype == np.uint8
        assert size in SIZES
        assert boxes.shape == (4, labels.shape[1], 4)
        assert labels.shape[1] in (2, 4, 8)
        assert len(image_ids) == len(geometry) == len(indices) == 4
        for index, image_id in zip(indices, image_ids, strict=True):
            assert dataset.samples[index].image_id == image_id
        real = labels >= 0
        boxes_seen += real.sum()
        assert (boxes[~real] == 0).all()
        assert (boxes[real][:, 2:] > boxes[real][:, :2]).all()
    assert boxes_seen > 30
    assert len({epoch[5] for epoch in epochs[0] + epochs[1]}) > 1


def test_size_of_a_batch_is_known_in_advance(dataset, reference):
    options, epochs = reference
    loader = detection_loader(dataset, jitter_pipeline(), 4, SIZES, num_workers=0, **options)
    for epoch, batches in epochs.items():
        assert [loader.size_of(epoch, number) for number in range(6)] == [batch[5] for batch in batches]
    other_rank = detection_loader(
        dataset, jitter_pipeline(), 2, SIZES, **{**options, "rank": 1, "group_size": 2}, num_workers=0
    )
    assert [other_rank.size_of(0, n) for n in range(6)] == [loader.size_of(0, n) for n in range(6)]


def test_evaluation_yields_every_image_once_with_its_geometry(dataset):
    found = []
    for rank in range(3):
        with detection_loader(
            dataset, plain_pipeline("letterbox"), 4, [(64, 48)], training=False, num_workers=1, rank=rank, group_size=3
        ) as loader:
            batches = copies(loader.epoch(0))
            assert len(batches) == loader.steps_per_epoch == 2
            for images, boxes, labels, image_ids, geometry, *_ in batches:
                assert len(images) == len(image_ids)
                found += image_ids
                for position, image_id in enumerate(image_ids):
                    sample = next(sample for sample in dataset.samples if sample.image_id == image_id)
                    real = labels[position] >= 0
                    back = geometry[position].inverse(boxes[position][real])
                    np.testing.assert_allclose(back, sample.boxes, atol=1e-3)
                    assert labels[position][real].tolist() == sample.labels.tolist()
                    want, _ = resize_for_eval(decode_image(sample.image_path), (64, 48), "letterbox")
                    np.testing.assert_array_equal(images[position], want)
    assert sorted(found) == sorted(sample.image_id for sample in dataset.samples)


@pytest.mark.parametrize("workers", [0, 2])
def test_cut_boxes_are_counted(dataset, workers):
    total = sum(len(sample.boxes) for sample in dataset.samples)
    with detection_loader(
        dataset, plain_pipeline(), 4, [(64, 64)], training=False, num_workers=workers, max_boxes=2, cut_boxes=True
    ) as loader:
        batches = copies(loader.epoch(0))
        kept = sum((batch[2] >= 0).sum() for batch in batches)
        assert all(batch[1].shape[1] == 2 for batch in batches)
        assert loader.boxes_cut == total - kept > 0
    whole = detection_loader(dataset, plain_pipeline(), 4, [(64, 64)], training=False, num_workers=0, max_boxes=2)
    assert sum((batch.labels >= 0).sum() for batch in whole.epoch(0)) == total
    assert whole.boxes_cut == 0


def test_dropped_and_repeated_images_are_logged(dataset, caplog):
    with caplog.at_level(logging.INFO):
        loader = detection_loader(dataset, plain_pipeline(), 4, [(32, 32)], training=True, num_workers=0)
    assert "drops 3 of 23 images" in caplog.text
    assert loader.steps_per_epoch == 5
    assert len({image_id for batch in loader.epoch(0) for image_id in batch.image_ids}) == 20
    caplog.clear()
    few = replace(dataset, samples=dataset.samples[:3])
    with caplog.at_level(logging.INFO):
        loader = detection_loader(few, jitter_pipeline(), 8, [(32, 32)], training=True, num_workers=0)
    assert "3 images are fewer than a step needs (8)" in caplog.text
    (batch,) = copies(loader.epoch(0))
    assert set(batch[3]) == {100, 101, 102}
    # A repeated image gets another augmentation.
    first, again = np.flatnonzero(batch[6] == batch[6][0])[:2]
    assert (batch[0][first] != batch[0][again]).any()


def test_batch_is_valid_until_the_next(dataset):
    with detection_loader(dataset, plain_pipeline(), 4, [(64, 64)], training=False, num_workers=2) as loader:
        batches = loader.epoch(0)
        kept = next(batches)
        before = kept.images.copy()
        time.sleep(0.3)
        np.testing.assert_array_equal(kept.images, before)
        batches.close()
    # The memory stays mapped after the end: it may contain another batch, but can be read.
    assert kept.images.sum() > 0


@pytest.mark.parametrize("workers", [0, 2])
def test_unusable_image_is_an_error_of_its_batch(coco, workers):
    for number in range(8):
        coco.add_image(number)
    dataset = read_coco(*coco.write())
    bad = coco.image_dir / "5.jpg"
    bad.write_bytes(bad.read_bytes()[:-100])
    with detection_loader(dataset, plain_pipeline(), 2, [(32, 32)], training=False, num_workers=workers) as loader:
        seen = []
        with pytest.raises(UserError, match=r"5\.jpg is truncated.*annotated in .*train\.json"):
            for batch in loader.epoch(0):
                seen += batch.image_ids
        assert seen == [0, 1, 2, 3]
        bad.write_bytes((coco.image_dir / "4.jpg").read_bytes())
        assert len(copies(loader.epoch(0))) == 4


def test_epoch_ends_when_its_loader_is_closed(dataset):
    with detection_loader(dataset, plain_pipeline(), 4, [(32, 32)], training=False, num_workers=1) as loader:
        batches = loader.epoch(0)
        next(batches)
        loader.close()
        with pytest.raises(RuntimeError, match="was closed"):
            copies(batches)


def test_transforms_may_modify_their_arguments(dataset):
    @dataclass(frozen=True)
    class Wipe:
        def __call__(self, image, boxes, labels, rng):
            boxes[:] = 0
            labels[:] = 0
            return image, boxes, labels

    before = [sample.boxes.copy() for sample in dataset.samples]
    loader = detection_loader(
        dataset, Pipeline(Resize(), before=(Wipe(),)), 4, [(32, 32)], training=False, num_workers=0
    )
    copies(loader.epoch(0))
    for sample, boxes in zip(dataset.samples, before, strict=True):
        np.testing.assert_array_equal(sample.boxes, boxes)


def test_workers_end_with_a_garbage_collected_loader(dataset):
    loader = detection_loader(dataset, plain_pipeline(), 4, [(32, 32)], training=False, num_workers=1)
    next(loader.epoch(0))
    assert not no_workers_running()
    del loader
    gc.collect()
    assert no_workers_running()


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"sizes": []},
        {"num_workers": -1},
        {"seed": -1},
        {"rank": 2, "group_size": 2},
        {"max_boxes": 0},
        {"resize_rate": 0},
    ],
)
def test_invalid_arguments(dataset, options):
    arguments = {"batch_size": 4, "sizes": [(32, 32)], "training": True, **options}
    with pytest.raises(UsageError):
        detection_loader(dataset, plain_pipeline(), **arguments)


def test_empty_dataset_is_an_error(dataset):
    with pytest.raises(UserError, match=r"train\.json has no images"):
        detection_loader(replace(dataset, samples=[]), plain_pipeline(), 4, [(32, 32)], training=True)


def test_real_images_with_and_without_workers(data_dir):
    root = data_dir / "coco_mini"
    dataset = read_coco(root / "annotations" / "instances_val2017.json", root / "val2017")
    dataset = replace(dataset, samples=dataset.samples[:48])
    results = []
    for workers in (0, 2):
        with detection_loader(
            dataset, jitter_pipeline(), 8, [(128, 128), (160, 128)], training=True, num_workers=workers
        ) as loader:
            results.append(copies(loader.epoch(0)))
    assert_equal_batches(*results)
