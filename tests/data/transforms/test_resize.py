"""Resize and its inverse."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msdet.data.transforms.augment import Resize
from msdet.data.transforms.resize import (
    INTERPOLATION_NAMES,
    RESIZE_MODES,
    choose_interpolation,
    plan_resize,
    resize_for_eval,
)
from msdet.errors import UsageError

SIDE = st.integers(1, 2000)


def boxes_within(width, height, count=5):
    corners = np.sort(np.random.default_rng(0).uniform(0, 1, (count, 2, 2)), axis=1)
    return (corners * [width, height]).reshape(count, 4)


@given(SIDE, SIDE, st.tuples(st.integers(32, 700), st.integers(32, 700)), st.sampled_from(RESIZE_MODES))
def test_inverse_undoes_forward(width, height, size, mode):
    geometry = plan_resize(width, height, size, mode)
    boxes = boxes_within(width, height)
    there = geometry.forward(boxes)
    assert there.dtype == np.float32
    back = geometry.inverse(there)
    assert back.dtype == np.float32
    # Rounding of float32 in input pixels, converted to image pixels.
    tolerance = max(width, height, 1) * 2e-6 / min(geometry.scale_x, geometry.scale_y, 1)
    np.testing.assert_allclose(back, boxes, atol=max(tolerance, 1e-3 / geometry.scale_x, 1e-3 / geometry.scale_y))


@given(SIDE, SIDE, st.tuples(st.integers(32, 700), st.integers(32, 700)), st.sampled_from(RESIZE_MODES))
def test_whole_image_is_inside(width, height, size, mode):
    geometry = plan_resize(width, height, size, mode)
    left, top, right, bottom = geometry.forward(np.array([[0, 0, width, height]]))[0]
    valid_h, valid_w = geometry.valid_size
    assert (left, top) == (geometry.pad_x, geometry.pad_y)
    assert (right - left, bottom - top) == pytest.approx((valid_w, valid_h), abs=1e-2)
    assert right <= size[1] + 1e-2
    assert bottom <= size[0] + 1e-2
    if mode == "stretch":
        assert (valid_h, valid_w) == size
    else:
        assert valid_w == size[1] or valid_h == size[0]
    if mode == "letterbox":
        assert abs((size[1] - right) - left) <= 1.01
        assert abs((size[0] - bottom) - top) <= 1.01
    if mode == "letterbox_top_left":
        assert (left, top) == (0, 0)


def test_inverse_clips_if_requested():
    geometry = plan_resize(100, 50, (200, 200), "letterbox")
    box = np.array([[-20, 0, 250, 200]], np.float32)
    np.testing.assert_allclose(geometry.inverse(box), [[-10, -25, 125, 75]])
    np.testing.assert_allclose(geometry.inverse(box, clip=True), [[0, 0, 100, 50]])
    assert geometry.inverse(np.zeros((0, 4), np.float32)).shape == (0, 4)


def test_letterbox_pads_with_the_given_value():
    image = np.full((50, 100, 3), 255, np.uint8)
    out, geometry = resize_for_eval(image, (64, 64), "letterbox", pad_value=(1, 2, 3))
    assert (geometry.pad_x, geometry.pad_y) == (0, 16)
    assert (out[:16] == [1, 2, 3]).all()
    assert (out[48:] == [1, 2, 3]).all()
    assert (out[16:48] == 255).all()
    out, _ = resize_for_eval(image, (64, 64), "letterbox_top_left", pad_value=7)
    assert (out[:32] == 255).all()
    assert (out[32:] == 7).all()


@pytest.mark.parametrize("mode", RESIZE_MODES)
@pytest.mark.parametrize("interpolation", ["nearest", "linear", "cubic", "area"])
def test_image_equals_opencv(mode, interpolation):
    image = np.random.default_rng(0).integers(0, 256, (37, 91, 3), np.uint8)
    out, geometry = resize_for_eval(image, (64, 80), mode, interpolation)
    height, width = geometry.valid_size
    flag = getattr(cv2, f"INTER_{interpolation.upper()}" + ("_EXACT" if interpolation == "nearest" else ""))
    top, left = int(geometry.pad_y), int(geometry.pad_x)
    want = cv2.resize(image, (width, height), interpolation=flag)
    np.testing.assert_array_equal(out[top : top + height, left : left + width], want)


def test_out_array():
    image = np.random.default_rng(0).integers(0, 256, (37, 91, 3), np.uint8)
    slot = np.zeros((3, 64, 80, 3), np.uint8)
    out, _ = resize_for_eval(image, (64, 80), "letterbox", out=slot[1])
    assert np.shares_memory(out, slot)
    np.testing.assert_array_equal(slot[1], resize_for_eval(image, (64, 80), "letterbox")[0])
    assert not slot[0].any()
    assert not slot[2].any()


def test_image_of_the_right_size_is_copied():
    image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    for mode in RESIZE_MODES:
        out, _ = resize_for_eval(image, (64, 80), mode, "cubic")
        np.testing.assert_array_equal(out, image)
        assert not np.shares_memory(out, image)


def test_old_zoo_interpolation():
    assert choose_interpolation("old_zoo", (10, 10), (20, 20)) == cv2.INTER_CUBIC
    assert choose_interpolation("old_zoo", (20, 20), (10, 10)) == cv2.INTER_NEAREST_EXACT
    assert choose_interpolation("old_zoo", (20, 10), (10, 20)) == cv2.INTER_LINEAR
    assert choose_interpolation("old_zoo", (20, 10), (20, 20)) == cv2.INTER_LINEAR
    assert "old_zoo" in INTERPOLATION_NAMES


def test_unknown_names():
    with pytest.raises(UsageError, match="resize mode 'squeeze'"):
        plan_resize(10, 10, (32, 32), "squeeze")
    with pytest.raises(UsageError, match="interpolation 'bicubic'"):
        choose_interpolation("bicubic", (1, 1), (2, 2))


@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_plan_equals_the_geometry_of_the_resize(mode):
    place, canvas = Resize(mode), np.zeros((96, 64, 3), np.uint8)
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
    for width, height in ((80, 60), (33, 100), (64, 96)):
        _, _, geometry = place(np.zeros((height, width, 3), np.uint8), *none, canvas, np.random.default_rng(0))
        assert place.plan(width, height, (96, 64)) == geometry
