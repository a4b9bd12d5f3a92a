"""Rendered images: visible boxes and overlaps."""

import numpy as np

from msdet.data.synthetic.render import _boxes_and_areas, _leaves_others_visible, render_image


def test_boxes_are_the_visible_extents():
    object_map = np.full((20, 20), -1)
    object_map[2:10, 3:12] = 0
    object_map[5:15, 8:20] = 1
    boxes, areas = _boxes_and_areas(object_map, 2)
    assert boxes.tolist() == [[3, 2, 12, 10], [8, 5, 20, 15]]
    assert areas.tolist() == [8 * 9 - 5 * 4, 10 * 12]


def test_shape_hides_at_most_half_of_another():
    object_map = np.full((20, 20), -1)
    object_map[0:10, 0:10] = 0
    assert _leaves_others_visible(np.ones((10, 5), np.float32), object_map, 5, 0, 1)
    assert not _leaves_others_visible(np.ones((10, 6), np.float32), object_map, 4, 0, 1)
    assert _leaves_others_visible(np.ones((20, 10), np.float32), object_map, 10, 0, 1)


def test_objects_overlap_but_stay_visible():
    overlaps = 0
    for seed in range(60):
        rendered = render_image(np.random.default_rng(seed), 128)
        assert len(rendered.labels) == len(rendered.boxes) == len(rendered.areas) >= 1
        assert (rendered.areas > 20).all()
        low = np.maximum(rendered.boxes[:, None, :2], rendered.boxes[None, :, :2])
        high = np.minimum(rendered.boxes[:, None, 2:], rendered.boxes[None, :, 2:])
        overlaps += ((high > low).all(axis=2).sum() - len(rendered.labels)) // 2
    assert overlaps > 10
