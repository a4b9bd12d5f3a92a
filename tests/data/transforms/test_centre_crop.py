"""Resize and centre crop of classification."""

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mindspore.dataset import vision

from msdet.data.transforms.centre_crop import ResizeAndCrop
from tests.data.limited import limited


def no_boxes():
    return np.zeros((0, 4), np.float32), np.zeros(0, np.int32)


@pytest.mark.parametrize("shape", [(2, 9000), (9000, 2), (1, 16000), (2, 16000)])
def test_long_images_need_little_memory(shape):
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


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 150), st.integers(8, 150), st.sampled_from([0, 36, 41, 64]), st.booleans(), st.integers(0, 9))
def test_resize_equals_that_of_mindspore(height, width, resize, stretch, seed):
    side = resize or 36
    # Of longer images only the centre is resized; see the next test.
    assume(stretch or side**2 * max(height, width) / min(height, width) < 60 * 32**2)
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    canvas = np.empty((32, 32, 3), np.uint8)
    place = ResizeAndCrop("stretch" if stretch else "shortest_side", resize)
    _, _, geometry = place(image, *no_boxes(), canvas, np.random.default_rng(0))
    expected = vision.CenterCrop(32)(vision.Resize((side, side) if stretch else side)(image))
    np.testing.assert_array_equal(canvas, expected)
    # The geometry maps the centre of the image to that of the canvas.
    middle = geometry.forward(np.array([[width / 2, height / 2] * 2], np.float32))
    np.testing.assert_allclose(middle, 16, atol=1)


@pytest.mark.parametrize("shape", [(3, 900), (900, 3), (2, 601), (1, 500)])
def test_the_middle_of_a_long_image_equals_that_of_the_whole_resized_image(shape):
    coarse = np.random.default_rng(0).integers(0, 256, (1, 30, 3), np.uint8)
    image = cv2.resize(coarse if shape[0] < shape[1] else coarse.transpose(1, 0, 2), shape[::-1])
    canvas = np.zeros((32, 32, 3), np.uint8)
    _, _, geometry = ResizeAndCrop()(image, *no_boxes(), canvas, np.random.default_rng(0))
    new_h, new_w = (36, 36 * shape[1] // shape[0]) if shape[0] < shape[1] else (36 * shape[0] // shape[1], 36)
    assert new_h * new_w > 64 * 32 * 32, "long enough"
    whole = cv2.resize(image, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
    top, left = (new_h - 32) // 2, (new_w - 32) // 2
    # Half a pixel of the canvas apart at most: as far as neighbours differ.
    off = np.abs(canvas.astype(int) - whole[top : top + 32, left : left + 32]).max()
    assert off <= 1 + max(np.abs(np.diff(whole.astype(int), axis=axis)).max() for axis in (0, 1))
    assert (geometry.pad_x, geometry.pad_y) == (-left, -top)
