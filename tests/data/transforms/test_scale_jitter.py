"""Scale jitter, compared with scaling the whole image and cropping it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msdet.data.transforms.scale_jitter import ScaleJitter


def reference_window(image_size, size, scale, rng):
    """Scaled size and offset as in google/automl: the whole image is scaled, then cropped."""
    (height, width), (canvas_h, canvas_w) = image_size, size
    factor = rng.uniform(*scale)
    zoom = factor * min(canvas_h / height, canvas_w / width)
    new_h, new_w = max(1, int(height * zoom)), max(1, int(width * zoom))
    top = int(max(0, new_h - canvas_h) * rng.uniform())
    left = int(max(0, new_w - canvas_w) * rng.uniform())
    return new_h, new_w, top, left


@settings(max_examples=200, deadline=None)
@given(st.integers(5, 300), st.integers(5, 300), st.integers(0, 10_000))
def test_boxes_and_geometry(height, width, seed):
    size, scale = (128, 256), (0.1, 2.0)
    new_h, new_w, top, left = reference_window((height, width), size, scale, np.random.default_rng(seed))
    corners = np.sort(np.random.default_rng(seed + 1).uniform(0, 1, (6, 2, 2)), axis=1)
    boxes = (corners * [width, height]).reshape(6, 4).astype(np.float32)
    canvas = np.zeros((*size, 3), np.uint8)
    moved, labels, geometry = ScaleJitter(scale)(
        np.full((height, width, 3), 255, np.uint8),
        boxes.copy(),
        np.arange(6, dtype=np.int32),
        canvas,
        np.random.default_rng(seed),
    )
    # The visible part is white, at the top left; everything else is padding.
    seen_h, seen_w = min(new_h, size[0]), min(new_w, size[1])
    assert (canvas[:seen_h, :seen_w] == 255).all()
    assert (canvas[seen_h:] == 128).all() and (canvas[:, seen_w:] == 128).all()
    valid_h, valid_w = geometry.valid_size
    assert (min(valid_h, size[0]), min(valid_w, size[1])) == (seen_h, seen_w)
    # The crop may differ from the ideal one by half a source pixel at either end, in canvas pixels.
    tolerance = 1.01 * max(new_h / height, new_w / width) + 1.01
    expected = boxes * [new_w / width, new_h / height, new_w / width, new_h / height] - [left, top, left, top]
    expected = np.clip(expected, 0, [size[1], size[0], size[1], size[0]])
    inside = ((expected[:, 2:] - expected[:, :2]) > tolerance).all(axis=1)
    assert set(np.flatnonzero(inside)) <= set(labels.tolist())
    assert np.abs(moved - expected[labels]).max(initial=0) <= tolerance
    assert ((moved[:, 2:] - moved[:, :2]) > 0).all()


@pytest.mark.parametrize("scale", [(0.3, 0.3), (1.0, 1.0), (1.9, 1.9)])
def test_pixels_follow_the_boxes(scale):
    image = np.zeros((200, 300, 3), np.uint8)
    image[60:120, 90:180] = 255
    canvas = np.empty((128, 128, 3), np.uint8)
    box, _, _ = ScaleJitter(scale)(
        image, np.float32([[90, 60, 180, 120]]), np.int32([0]), canvas, np.random.default_rng(2)
    )
    rows, columns = np.nonzero((canvas == 255).all(2))
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(found, box[0], atol=1.5)


def test_result_depends_only_on_the_generator():
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    canvases = [np.empty((64, 64, 3), np.uint8) for _ in range(2)]
    for canvas in canvases:
        ScaleJitter()(image, np.zeros((0, 4), np.float32), np.zeros(0, np.int32), canvas, np.random.default_rng(5))
    np.testing.assert_array_equal(*canvases)
