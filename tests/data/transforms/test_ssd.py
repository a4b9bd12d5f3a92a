"""SSD augmentation: colours and crops compared with slow references, and the boxes that are kept."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msdet.data.transforms.augment import colour_matrix
from msdet.data.transforms.ssd import ExpandCrop, PhotometricDistort

NO_BOXES = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)


def rng_of(seed=0):
    return np.random.default_rng(seed)


def random_image(height=30, width=40, seed=0):
    return rng_of(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_colours_match_the_reference(probability):
    """Applies each change separately, pixel by pixel, in SSD's order; only the result is rounded and clipped."""
    distort = PhotometricDistort(probability)
    for seed in range(8):
        image = random_image(6, 5, seed)
        rng = rng_of(seed)
        used = [rng.uniform() < probability for _ in range(4)]
        added, contrast = rng.uniform(-32, 32), rng.uniform(0.5, 1.5)
        saturation, hue = rng.uniform(0.5, 1.5), rng.uniform(-0.1, 0.1)
        expected = np.zeros((6, 5, 3))
        for row, column in np.ndindex(6, 5):
            pixel = image[row, column].astype(float)
            pixel = pixel + added if used[0] else pixel
            pixel = pixel * contrast if used[1] else pixel
            pixel = colour_matrix(0, saturation, 1) @ pixel if used[2] else pixel
            expected[row, column] = colour_matrix(hue, 1, 1) @ pixel if used[3] else pixel
        found, boxes, labels = distort(image, *NO_BOXES, rng_of(seed))
        # OpenCV multiplies in fixed point.
        assert np.abs(found - np.clip(expected, 0, 255)).max() <= 1
        assert boxes is NO_BOXES[0] and labels is NO_BOXES[1]


def gradient_image(height, width):
    """Red encodes the column, green the row."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 250, width).round()
    image[..., 1] = np.linspace(0, 250, height).round()[:, None]
    return image


@pytest.mark.parametrize("seed", range(12))
def test_pixels_and_boxes_match_the_reference(seed):
    """Every canvas pixel shows the image point given by the geometry, or the fill; boxes move accordingly."""
    image = gradient_image(200, 300)
    boxes = np.array([[30, 40, 120, 160], [150, 20, 290, 190]], np.float32)
    labels = np.array([3, 5], np.int32)
    canvas = np.zeros((96, 128, 3), np.uint8)
    place = ExpandCrop(interpolation="linear", fill=(1, 2, 255))
    moved, kept, geometry = place(image, boxes, labels, canvas, rng_of(seed))
    for row in range(3, 93, 10):
        for column in range(3, 125, 10):
            x = (column + 0.5 - geometry.pad_x) / geometry.scale_x
            y = (row + 0.5 - geometry.pad_y) / geometry.scale_y
            # Near the border both are allowed.
            margin = 2 / min(geometry.scale_x, geometry.scale_y) + 1
            if margin < x < 300 - margin and margin < y < 200 - margin:
                assert abs(int(canvas[row, column, 0]) - x / 300 * 250) < 6 + 2 * margin
                assert abs(int(canvas[row, column, 1]) - y / 200 * 250) < 6 + 2 * margin
            elif not (-margin < x < 300 + margin and -margin < y < 200 + margin):
                assert canvas[row, column].tolist() == [1, 2, 255]
    assert len(kept)
    for label, box in zip(kept, moved, strict=True):
        whole = geometry.forward(boxes[labels.tolist().index(label)][None])[0]
        np.testing.assert_allclose(box, np.clip(whole, 0, (128, 96, 128, 96)), atol=1e-3)
    lost = [label for label in labels if label not in kept]
    for label in lost:
        left, top, right, bottom = geometry.forward(boxes[labels.tolist().index(label)][None])[0]
        inside = 0 < (left + right) / 2 < 128 and 0 < (top + bottom) / 2 < 96
        sides = np.clip([right, bottom], 0, (128, 96)) - np.clip([left, top], 0, (128, 96))
        assert not inside or sides.min() <= 1


def reference_iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.1, 0.5, 0.9]))
def test_crop_has_the_minimum_iou_and_keeps_a_box(seed, least):
    rng = rng_of(seed)
    start = rng.uniform(0, 60, (3, 2))
    boxes = np.concatenate((start, start + rng.uniform(10, 40, (3, 2))), 1)
    crop = ExpandCrop(expand_probability=0.0, overlaps=(least,) * 50).sample_crop((100, 110), boxes, rng)
    if crop.tolist() != [0, 0, 110, 100]:
        width, height = (crop[2] - crop[0]) / 110, (crop[3] - crop[1]) / 100
        assert crop.min() >= 0 and crop[2] <= 110 + 1e-9 and crop[3] <= 100 + 1e-9
        assert 0.3**2 - 1e-9 <= width * height <= 1
        assert 0.5 - 1e-9 <= width / height <= 2 + 1e-9
        # One of 52 options has no minimum IoU; nearly all samples are of the others.
        overlaps = [reference_iou(crop, box) for box in boxes]
        centres = [((b[0] + b[2]) / 2, (b[1] + b[3]) / 2) for b in boxes]
        assert any(crop[0] < x < crop[2] and crop[1] < y < crop[3] for x, y in centres)
        assert max(overlaps) > 0


def test_every_crop_option_is_sampled():
    """With one minimum IoU, a third of the crops has it; `any` and `whole` are the other thirds."""
    boxes = np.array([[20, 20, 80, 90]], np.float64)
    place = ExpandCrop(expand_probability=0.0, overlaps=(0.5,))
    rng = rng_of()
    crops = [place.sample_crop((100, 110), boxes, rng) for _ in range(300)]
    whole = sum(crop.tolist() == [0, 0, 110, 100] for crop in crops)
    tight = sum(reference_iou(crop, boxes[0]) >= 0.5 for crop in crops)
    assert 60 < whole < 150 and 80 < tight < 200
    assert min(reference_iou(crop, boxes[0]) for crop in crops) < 0.3


def test_expansion_shrinks_the_image_to_a_random_position():
    boxes = np.array([[0, 0, 110, 100]], np.float64)
    place = ExpandCrop(expand_probability=1.0, expand_ratio=4.0, overlaps=(1.0,))
    rng = rng_of()
    seen = [place.sample_crop((100, 110), boxes, rng) for _ in range(300)]
    whole = [rect for rect in seen if rect[0] <= 0 and rect[1] <= 0 and rect[2] >= 110 and rect[3] >= 100]
    ratios = [(rect[2] - rect[0]) / 110 for rect in whole]
    assert len(whole) > 100 and 1 <= min(ratios) < 1.5 and 3 < max(ratios) <= 4
    assert np.std([-rect[0] / (rect[2] - rect[0] - 110) for rect in whole if rect[2] - rect[0] > 115]) > 0.2


def test_image_without_boxes_is_not_expanded():
    place = ExpandCrop(interpolation="nearest", fill=(1, 2, 255))
    for seed in range(20):
        canvas = np.zeros((32, 32, 3), np.uint8)
        boxes, labels, _ = place(gradient_image(60, 90), *NO_BOXES, canvas, rng_of(seed))
        assert boxes.shape == (0, 4) and labels.shape == (0,)
        assert (canvas[..., 2] == 0).all()


def test_result_depends_only_on_the_generator():
    image, boxes = gradient_image(60, 90), np.array([[10, 10, 60, 50]], np.float32)
    canvases = np.zeros((2, 32, 48, 3), np.uint8)
    results = [ExpandCrop()(image, boxes, np.array([1]), canvas, rng_of(7)) for canvas in canvases]
    np.testing.assert_array_equal(*canvases)
    np.testing.assert_array_equal(results[0][0], results[1][0])


def test_boxes_whose_centre_lies_outside_are_dropped():
    """However large the visible part is."""
    rng = rng_of(3)
    dropped_in_sight = 0
    place = ExpandCrop(interpolation="nearest")
    for seed in range(60):
        start = rng.uniform(0, 60, (6, 2))
        boxes = np.concatenate((start, start + rng.uniform(15, 50, (6, 2))), 1).astype(np.float32)
        labels = np.arange(6)
        _, kept, geometry = place(
            gradient_image(110, 110), boxes, labels, np.zeros((64, 64, 3), np.uint8), rng_of(seed)
        )
        whole = geometry.forward(boxes)
        centres = (whole[:, :2] + whole[:, 2:]) / 2
        inside = ((centres > 0) & (centres < 64)).all(axis=1)
        seen = np.clip(whole, 0, 64)
        large = (seen[:, 2:] - seen[:, :2] > 1).all(axis=1)
        assert kept.tolist() == labels[inside & large].tolist()
        dropped_in_sight += int((large & ~inside).sum())
    assert dropped_in_sight > 20


def test_crop_contains_the_centre_of_a_box():
    """Wide crops can overlap tall boxes without containing a centre; these are sampled again."""
    boxes = np.array([[0, 0, 110, 8], [0, 92, 110, 100]], np.float64)
    place = ExpandCrop(expand_probability=0.0, overlaps=(0.05,) * 20, scale=(0.3, 0.5))
    rng = rng_of(1)
    for _ in range(200):
        crop = place.sample_crop((100, 110), boxes, rng)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        assert ((centres > crop[:2]) & (centres < crop[2:])).all(axis=1).any()
