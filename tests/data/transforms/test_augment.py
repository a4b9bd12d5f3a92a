"""Augmentation, compared with slow reference implementations."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msdet.data.transforms.augment import (
    ColourJitter,
    Flip,
    JitterCrop,
    Resize,
    clip_to_canvas,
    colour_matrix,
    sample_interpolation,
)
from msdet.data.transforms.pipeline import Pipeline
from msdet.data.transforms.resize import plan_resize
from tests.data.transforms.samples import boxes_in, canvas_of

SEED = st.integers(0, 10_000)
NO_BOXES = np.zeros((0, 4), np.float32)
NO_LABELS = np.zeros(0, np.int32)


def extent_of(mask):
    rows, columns = np.nonzero(mask)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def reference_jitter(image, boxes, labels, canvas, rng, jitter=0.3, fill=128):
    """Resizes and pastes the whole image; `JitterCrop` may differ by the rounding to whole pixels."""
    height, width = canvas.shape[:2]
    rng.integers(3)
    for _ in range(10):
        upper, lower = rng.uniform(1 - jitter, 1 + jitter, 2)
        aspect = width / height * upper / lower
        scale = rng.uniform(0.25, 2.0)
        new_w, new_h = (
            (scale * height * aspect, scale * height)
            if aspect < width / height
            else (
                scale * width,
                scale * width / aspect,
            )
        )
        left = rng.uniform() * (width - new_w)
        top = rng.uniform() * (height - new_h)
        factor = np.array([new_w / image.shape[1], new_h / image.shape[0]] * 2)
        moved = boxes * factor + np.array([left, top] * 2)
        moved[:, 0::2] = moved[:, 0::2].clip(0, width)
        moved[:, 1::2] = moved[:, 1::2].clip(0, height)
        sides = moved[:, 2:] - moved[:, :2]
        if not len(boxes) or (sides > 1).all(1).any():
            break
    whole = cv2.resize(image, (max(1, round(new_w)), max(1, round(new_h))), interpolation=cv2.INTER_LINEAR)
    out = np.full_like(canvas, fill)
    for row in range(height):
        for column in range(width):
            y, x = row - round(top), column - round(left)
            if 0 <= y < whole.shape[0] and 0 <= x < whole.shape[1]:
                out[row, column] = whole[y, x]
    return out, moved, sides


def test_interpolation_is_sampled_only_if_random():
    rng, same = np.random.default_rng(0), np.random.default_rng(0)
    choices = ("nearest", "linear", "cubic")
    assert sample_interpolation("cubic", choices, rng) == "cubic"
    sampled = [sample_interpolation("random", choices, rng) for _ in range(20)]
    assert sampled == [choices[same.integers(3)] for _ in range(20)] and set(sampled) == set(choices)


@settings(max_examples=30, deadline=None)
@given(SEED)
def test_jitter_matches_the_reference(seed):
    smooth = cv2.resize(np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8), (120, 90))
    boxes, labels = boxes_in(smooth, seed=seed)
    canvas = canvas_of((48, 64))
    got_boxes, got_labels, _ = JitterCrop(interpolation="random", interpolations=("linear",) * 3)(
        smooth, boxes, labels, canvas, np.random.default_rng(seed)
    )
    want, moved, sides = reference_jitter(smooth, boxes, labels, canvas, np.random.default_rng(seed))
    # A source pixel covers up to a few canvas pixels, which bounds the rounding errors.
    slack = 1.5 + 1.5 * 64 * 2 * 1.9 / 90
    surely = (sides > 1 + 2 * slack).all(1)
    assert set(labels[surely]) <= set(got_labels.tolist())
    np.testing.assert_allclose(got_boxes, moved[got_labels], atol=slack)
    assert np.abs(canvas.astype(int) - want).mean() < 8


@settings(max_examples=60, deadline=None)
@given(
    SEED,
    st.booleans(),
    st.sampled_from(["nearest", "linear", "cubic", "random"]),
    st.sampled_from(["network", "image"]),
)
def test_boxes_follow_the_pixels(seed, flip, interpolation, aspect):
    # A white rectangle on black must end at its box.
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(60, 200, 2))
    left, top = int(rng.integers(0, width - 30)), int(rng.integers(0, height - 30))
    right, bottom = int(rng.integers(left + 20, width + 1)), int(rng.integers(top + 20, height + 1))
    image = np.zeros((height, width, 3), np.uint8)
    image[top:bottom, left:right] = 255
    canvas = canvas_of()
    pipeline = Pipeline(
        JitterCrop(interpolation=interpolation, aspect=aspect, fill=0), after=(Flip(1.0 if flip else 0.0),)
    )
    box = np.array([[left, top, right, bottom]], np.float32)
    boxes, labels, geometry = pipeline((image, box, np.array([4], np.int32)), canvas, rng)
    assert labels.tolist() == [4]
    # Interpolated edges have half brightness at the edge; `nearest` moves it by up to half a source pixel.
    slack = 0.51 + 0.5 * max(geometry.scale_x, geometry.scale_y)
    np.testing.assert_allclose(extent_of(canvas[..., 0] > 127), boxes[0], atol=slack)
    # The centre of the rectangle is more accurate than an edge. If the image shrinks, an edge moves by up to half the
    # difference between the two pixel sizes.
    if interpolation in ("linear", "cubic"):
        bright = canvas[..., 0] / 255
        free = (boxes[0] > 2).all() and (boxes[0] < [126, 94, 126, 94]).all()
        if free:
            columns, rows = np.arange(128) + 0.5, np.arange(96) + 0.5
            centre = [(bright.sum(0) * columns).sum() / bright.sum(), (bright.sum(1) * rows).sum() / bright.sum()]
            away = np.abs(centre - (boxes[0, :2] + boxes[0, 2:]) / 2)
            scales = np.array([geometry.scale_x, geometry.scale_y])
            assert (away <= 0.1 + 0.5 * np.maximum(1 - scales, 0)).all(), (away, scales)


@settings(max_examples=60, deadline=None)
@given(SEED, st.tuples(st.integers(1, 300), st.integers(1, 300)))
def test_canvas_is_filled_and_boxes_stay_inside(seed, size):
    image = np.full((*size, 3), 200, np.uint8)
    boxes, labels = boxes_in(image, seed=seed)
    canvas = np.zeros((64, 96, 3), np.uint8)
    moved, kept, _ = JitterCrop()(image, boxes, labels, canvas, np.random.default_rng(seed))
    assert set(np.unique(canvas)) <= {128, 200}
    assert (canvas == 200).any()
    assert moved.shape == (len(kept), 4)
    assert moved.dtype == np.float32
    assert (moved >= 0).all()
    assert (moved[:, [0, 2]] <= 96).all()
    assert (moved[:, [1, 3]] <= 64).all()
    assert ((moved[:, 2:] - moved[:, :2]) > 1).all()


def test_placement_without_boxes_is_sampled_again_and_finally_stretched():
    image = np.full((100, 100, 3), 9, np.uint8)
    # A tiny object in a corner that a large crop mostly misses.
    box = np.array([[0, 0, 4, 4]], np.float32)
    for seed in range(200):
        moved, _, _ = JitterCrop(scale=(2.0, 2.0))(
            image, box, np.zeros(1, np.int32), canvas_of(), np.random.default_rng(seed)
        )
        assert len(moved) == 1
    canvas = canvas_of()
    never = JitterCrop(scale=(2.0, 2.0), trials=0)
    _, _, geometry = never(image, box, np.zeros(1, np.int32), canvas, np.random.default_rng(0))
    assert geometry == plan_resize(100, 100, (96, 128), "stretch")
    assert (canvas == 9).all()


def test_images_without_boxes():
    image = np.full((100, 100, 3), 9, np.uint8)
    places = set()
    for seed in range(20):
        boxes, labels, geometry = JitterCrop()(image, NO_BOXES, NO_LABELS, canvas_of(), np.random.default_rng(seed))
        assert boxes.shape == (0, 4)
        assert labels.shape == (0,)
        places.add((geometry.scale_x, geometry.pad_x))
    assert len(places) == 20


def test_sampled_windows_cover_their_ranges():
    rng = np.random.default_rng(0)
    placed = [JitterCrop().sample_window((480, 640), (416, 416), rng) for _ in range(4000)]
    geometries = [window.geometry() for window in placed]
    widths = np.array([geometry.scale_x * 640 / 416 for geometry in geometries])
    heights = np.array([geometry.scale_y * 480 / 416 for geometry in geometries])
    longer = np.maximum(widths, heights)
    assert 0.24 < longer.min() < 0.27
    assert 1.97 < longer.max() < 2.03
    assert longer.mean() == pytest.approx(1.125, abs=0.03)
    aspects = widths / heights
    assert 0.53 < aspects.min() < 0.56
    assert 1.78 < aspects.max() < 1.88
    image_aspect = [
        JitterCrop(aspect="image").sample_window((480, 960), (416, 416), rng).geometry() for _ in range(500)
    ]
    ratio = np.median([g.scale_x * 960 / (g.scale_y * 480) for g in image_aspect])
    assert ratio == pytest.approx(2.0, abs=0.15)


def test_no_jitter_and_scale_one_is_a_stretch():
    image = np.random.default_rng(0).integers(0, 256, (77, 53, 3), np.uint8)
    boxes, labels = boxes_in(image)
    plain, jittered = canvas_of(), canvas_of()
    want, _, _ = Resize()(image, boxes, labels, plain, np.random.default_rng(0))
    still = JitterCrop(jitter=0.0, scale=(1.0, 1.0), interpolation="linear", min_side=0.0)
    got, _, _ = still(image, boxes, labels, jittered, np.random.default_rng(0))
    np.testing.assert_array_equal(plain, jittered)
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_small_boxes_are_dropped_after_clipping():
    boxes = np.array([[-5, 0, 1, 10], [-5, 0, 1.5, 10], [3, 3, 4, 20], [90, 90, 99, 99], [10, 10, 20, 20]], np.float32)
    cut, kept = clip_to_canvas(boxes, (64, 64), 1.0)
    assert kept.tolist() == [False, True, False, False, True]
    np.testing.assert_array_equal(cut[1], [0, 0, 1.5, 10])
    assert clip_to_canvas(NO_BOXES, (64, 64), 1.0)[1].shape == (0,)


def test_flip_mirrors_pixels_and_boxes():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    before = image.copy()
    boxes = np.array([[2, 3, 10, 12]], np.float32)
    out, mirrored, _ = Flip(1.0)(image, boxes, NO_LABELS, np.random.default_rng(0))
    np.testing.assert_array_equal(out, before[:, ::-1])
    np.testing.assert_array_equal(mirrored, [[20, 3, 28, 12]])
    np.testing.assert_array_equal(boxes, [[2, 3, 10, 12]])
    twice, back, _ = Flip(1.0)(out, mirrored, NO_LABELS, np.random.default_rng(0))
    np.testing.assert_array_equal(twice, before)
    np.testing.assert_array_equal(back, boxes)
    flips = sum(Flip()(image, boxes, NO_LABELS, np.random.default_rng(n))[1][0, 0] != 2 for n in range(400))
    assert 150 < flips < 250


def reference_colour(pixel, hue, saturation, value):
    r, g, b = (float(channel) for channel in pixel)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    i = 0.596 * r - 0.274 * g - 0.322 * b
    q = 0.211 * r - 0.523 * g + 0.312 * b
    angle = -2 * np.pi * hue
    i, q = (
        saturation * (i * np.cos(angle) - q * np.sin(angle)),
        saturation * (i * np.sin(angle) + q * np.cos(angle)),
    )
    back = np.linalg.solve(
        np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]]), [y, i, q]
    )
    return np.clip(np.round(back * value), 0, 255)


def test_colour_matches_the_reference():
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    for hue, saturation, value in [(0, 1, 1), (0.1, 1, 1), (-0.07, 1.4, 0.8), (0.03, 0.6, 1.5)]:
        matrix = colour_matrix(hue, saturation, value).astype(np.float32)
        got = cv2.transform(image, matrix).astype(int)
        want = np.array([[reference_colour(pixel, hue, saturation, value) for pixel in row] for row in image])
        assert np.abs(got - want).max() <= 1


def test_colour_keeps_greys_and_rotates_like_hsv():
    grey = np.full(3, 100.0)
    np.testing.assert_allclose(colour_matrix(0.1, 1.5, 1.0) @ grey, grey, atol=0.5)
    np.testing.assert_allclose(colour_matrix(0.0, 1.0, 1.2) @ grey, grey * 1.2, atol=0.5)
    # In HSV, a positive hue rotates red towards yellow, a negative one towards magenta.
    red = np.array([200.0, 0, 0])
    warmer, colder = colour_matrix(0.08, 1, 1) @ red, colour_matrix(-0.08, 1, 1) @ red
    assert warmer[1] > warmer[2]
    assert colder[2] > colder[1]
    np.testing.assert_allclose(colour_matrix(0, 1, 1), np.eye(3), atol=1e-12)


def test_colour_jitter_changes_only_pixels_in_place():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    before = image.copy()
    boxes = np.array([[2, 3, 10, 12]], np.float32)
    out, same, _ = ColourJitter()(image, boxes, NO_LABELS, np.random.default_rng(0))
    assert out is image
    assert (out != before).any()
    assert same is boxes
    still = before.copy()
    ColourJitter(0, 1, 1)(still, boxes, NO_LABELS, np.random.default_rng(0))
    assert np.abs(still.astype(int) - before).max() <= 1
