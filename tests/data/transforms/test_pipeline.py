"""Chains of augmentation steps."""

import numpy as np

from msdet.data.transforms.augment import (
    Flip,
    Resize,
)
from msdet.data.transforms.pipeline import Pipeline, jitter_pipeline, plain_pipeline
from tests.data.transforms.samples import boxes_in, canvas_of


def test_pipelines_depend_only_on_the_generator():
    image = np.random.default_rng(0).integers(0, 256, (77, 53, 3), np.uint8)
    boxes, labels = boxes_in(image)

    def run(seed):
        canvas = canvas_of()
        sample = image.copy(), boxes.copy(), labels.copy()
        found = jitter_pipeline()(sample, canvas, np.random.default_rng(seed))
        return canvas, found

    (one, first), (same, again), (other, _) = run(1), run(1), run(2)
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(first[0], again[0])
    assert (one != other).any()


def test_pipeline_steps_may_return_new_arrays():
    image = np.concatenate([np.full((8, 8, 3), value, np.uint8) for value in (2, 0)], axis=1)
    sample = image, np.float32([[0, 0, 8, 8], [8, 0, 16, 8]]), np.int32([2, 0])

    def invert(image, boxes, labels, rng):
        return 255 - image, boxes, labels

    canvas = np.empty((16, 32, 3), np.uint8)
    pipeline = Pipeline(Resize(interpolation="nearest"), before=(invert,), after=(invert,))
    boxes, labels, _ = pipeline(sample, canvas, np.random.default_rng(0))
    assert (canvas[:, :16] == 2).all()
    assert (canvas[:, 16:] == 0).all()
    assert labels.tolist() == [2, 0]
    np.testing.assert_array_equal(boxes, [[0, 0, 16, 16], [16, 0, 32, 16]])


def test_plain_pipelines():
    assert plain_pipeline("letterbox", "area", 0).place == Resize("letterbox", "area", 0)
    assert plain_pipeline().after == ()
    assert plain_pipeline(flip=0.5).after == (Flip(0.5),)


def test_transform_image_letterboxes():
    image = np.full((20, 40, 3), 200, np.uint8)
    canvas, geometry = plain_pipeline("letterbox", pad_value=7).transform_image(image, (32, 32))
    assert canvas.shape == (32, 32, 3) and (canvas[8:24] == 200).all() and (canvas[:8] == 7).all()
    np.testing.assert_allclose(geometry.inverse(np.float32([[0, 8, 32, 24]]), clip=True), [[0, 0, 40, 20]])
