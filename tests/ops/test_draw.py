"""Labelled boxes: position, colour, and saved files."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from msdet.errors import UserError
from msdet.ops.draw import add_captions, class_colour, draw_boxes, save_image, side_by_side


def test_position_of_box_and_label():
    image = np.full((640, 640, 3), 127, np.uint8)
    drawn = draw_boxes(image, np.array([[100, 200, 300, 400]]), np.array([2]), ["a", "b", "c"], np.array([0.5]))
    assert (image == 127).all()
    assert drawn.shape == image.shape
    for x, y in ((100, 300), (300, 300), (200, 400)):
        np.testing.assert_array_equal(drawn[y, x], class_colour(2))
    changed = (drawn != 127).any(axis=2)
    assert not changed[205:395, 105:295].any()  # inside the box nothing is drawn
    assert changed[186:199, 100:130].mean() > 0.9  # the label is above the box
    assert not changed[:150].any()


def test_small_images_are_enlarged():
    drawn = draw_boxes(np.zeros((128, 256, 3), np.uint8), np.array([[10, 60, 50, 100]]), np.array([0]), ["a"])
    assert drawn.shape == (256, 512, 3)
    np.testing.assert_array_equal(drawn[160, 20], class_colour(0))


@pytest.mark.parametrize("box", [[-50, -50, 5, 5], [630, 470, 900, 900], [0, 0, 640, 480], [5, 5, 5, 5]])
def test_boxes_on_and_beyond_the_border(box):
    image = np.zeros((480, 640, 3), np.uint8)
    drawn = draw_boxes(image, np.array([box]), np.array([7]), ["no name for it"], np.array([1.0]))
    assert drawn.shape == image.shape
    assert drawn.any()


def test_nothing_to_draw():
    image = np.random.default_rng(0).integers(0, 255, (640, 500, 3), np.uint8)
    np.testing.assert_array_equal(draw_boxes(image, np.zeros((0, 4)), np.zeros(0), []), image)


def test_colours_are_bright_and_distinct_for_neighbouring_classes():
    colours = np.array([class_colour(label) for label in range(90)], float)
    assert colours.max(axis=1).min() > 200
    near = [np.abs(colours[i] - colours[i + d]).max() for i in range(80) for d in range(1, 8)]
    assert min(near) > 20
    assert len({class_colour(label) for label in range(90)}) == 90


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPEG"])
def test_images_are_saved_as_rgb(tmp_path, name):
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 0] = 250
    both = side_by_side(image, image)
    save_image(tmp_path / "made" / name, both)
    read = cv2.imread(str(tmp_path / "made" / name))[:, :, ::-1]
    assert read.shape == both.shape
    assert read[60, 32, 0] > 240 and read[60, 32, 2] < 10
    assert [path.name for path in (tmp_path / "made").iterdir()] == [name]


def test_images_that_cannot_be_saved(tmp_path):
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(UserError, match=r"\.png, \.jpg"):
        save_image(tmp_path / "a.gif", image)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        save_image(tmp_path / "file" / "a.png", image)


def test_captions_are_on_a_bar_below_the_image():
    image = np.full((480, 640, 3), 200, np.uint8)
    drawn = add_captions(image, ["0.900 cat", "0.050 d\xf6g"])
    np.testing.assert_array_equal(drawn[:480], image)
    bars = drawn[480:].reshape(2, -1, 640, 3)
    assert all(bar.max() > 200 and (bar == 32).mean() > 0.5 for bar in bars)
    assert add_captions(np.zeros((30, 40, 3), np.uint8), ["a"]).shape[1] == 640


@pytest.mark.parametrize("shape", [(2, 70_000), (2, 16_000)])
def test_long_images_are_drawn_and_saved_in_little_memory(tmp_path, shape):
    image = np.zeros((*shape, 3), np.uint8)
    box, label = np.array([[0, 0, 100, 2]], np.float32), np.array([0])
    drawn = add_captions(draw_boxes(image, box, label, ["cat"]), ["cat 0.9", "dog 0.1"])
    assert drawn.nbytes < 20 * image.nbytes + 1e7, "the bar does not grow with the length of the image"
    save_image(tmp_path / "a.jpg", drawn)
    assert cv2.imread(str(tmp_path / "a.jpg")).shape[1] == min(shape[1], 65_500)
