"""Mosaic: boxes stay on their objects, no visible object is lost, and images without boxes are used."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from msdet.data.transforms.augment import Resize
from msdet.data.transforms.mosaic import Mosaic
from msdet.data.transforms.pipeline import Pipeline

# (height, width); one object each, except sample 2.
SIZES = [(60, 80), (90, 50), (40, 40), (64, 200), (33, 47)]
OBJECTS = [(10, 8, 60, 40), (5, 30, 45, 80), None, (20, 10, 190, 60), (0, 0, 47, 33)]


def load(index):
    """A dark image with an object in a distinct bright grey."""
    image = np.full((*SIZES[index], 3), 10, np.uint8)
    if OBJECTS[index] is None:
        return image, np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
    left, top, right, bottom = OBJECTS[index]
    image[top:bottom, left:right] = 100 + 30 * index
    return image, np.float32([OBJECTS[index]]), np.int32([index])


class Samples:
    """The first `count` samples; `seen` are the loaded ones."""

    def __init__(self, count=5, read=load):
        self.count, self.read, self.seen = count, read, []

    def __len__(self):
        return self.count

    def load(self, index, rng):
        self.seen.append(index)
        return self.read(index)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 4))
def test_boxes_stay_on_their_objects(seed, index):
    mosaic = Mosaic(1.0, side=160, interpolation="nearest")
    image, boxes, labels = mosaic(Samples()).load(index, np.random.default_rng(seed))
    assert image.shape == (160, 160, 3) and image.dtype == np.uint8
    assert boxes.dtype == np.float32 and labels.dtype == np.int32 and len(boxes) == len(labels)
    assert len(set(labels.tolist())) == len(labels), "four different samples"
    for label in set(range(5)) - {2}:
        rows, columns = np.nonzero(image[..., 0] == 100 + 30 * label)
        if label not in labels:
            # Without a box, at most a sliver is visible.
            assert not len(rows) or min(np.ptp(rows), np.ptp(columns)) <= 8
            continue
        extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        # A source pixel covers up to 3 pixels of this mosaic.
        np.testing.assert_allclose(boxes[labels == label][0], extent, atol=4)


def test_every_sample_is_used_and_the_first_one_always():
    rng = np.random.default_rng(0)
    mosaic, met = Mosaic(1.0, side=160), set()
    for _ in range(30):
        samples = Samples()
        mosaic(samples).load(3, rng)
        assert 3 in samples.seen and len(set(samples.seen)) == 4
        met |= set(samples.seen)
    assert met == set(range(5))


def test_images_without_boxes_and_small_datasets():
    rng = np.random.default_rng(0)
    image, boxes, labels = Mosaic(1.0, side=64)(Samples(1, lambda _: load(2))).load(0, rng)
    assert (image == 10).all() and boxes.shape == (0, 4) and labels.shape == (0,)
    for count in (1, 2, 3):
        _, boxes, _ = Mosaic(1.0, side=64)(Samples(count)).load(0, rng)
        assert len(boxes)


def test_probability_and_repetition():
    mosaic = Mosaic(0.5, side=64)
    shapes = [mosaic(Samples()).load(0, np.random.default_rng(seed))[0].shape[:2] for seed in range(200)]
    assert 70 < shapes.count((64, 64)) < 130 and set(shapes) == {(64, 64), SIZES[0]}
    first, again = (mosaic(Samples()).load(1, np.random.default_rng(7)) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_mosaic_in_a_pipeline():
    canvas = np.empty((96, 128, 3), np.uint8)
    rng = np.random.default_rng(1)
    sample = Mosaic(1.0, side=64)(Samples()).load(0, rng)
    boxes, labels, _ = Pipeline(place=Resize())(sample, canvas, rng)
    assert (boxes >= 0).all() and (boxes[:, 2] <= 128).all() and (boxes[:, 3] <= 96).all() and len(labels) == len(boxes)
