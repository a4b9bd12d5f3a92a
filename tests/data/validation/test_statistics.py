"""Box statistics, compared with slow reference implementations."""

import numpy as np

from msdet.data.formats.coco.read import read_coco
from msdet.data.transforms.resize import plan_resize
from msdet.data.validation.statistics import BoxTable, class_counts


def test_statistics_match_the_reference(many):
    dataset = read_coco(many.ann_file, many.image_dir)
    table = BoxTable.of(dataset)
    expected, sides = {name: [0, 0] for name in dataset.class_names}, []
    for sample in dataset.samples:
        plan = plan_resize(sample.width, sample.height, (64, 96), "letterbox")
        for label in sample.labels:
            expected[dataset.class_names[label]][0] += 1
        for label in set(sample.labels.tolist()):
            expected[dataset.class_names[label]][1] += 1
        sides += [[(b[2] - b[0]) * plan.scale_x, (b[3] - b[1]) * plan.scale_y] for b in sample.boxes]
    assert {name: [boxes, images] for name, boxes, images in class_counts(dataset, table)} == expected
    np.testing.assert_allclose(table.sides_at((64, 96), "letterbox"), sides, rtol=1e-5)
    assert not table.duplicates().any()


def test_duplicates_have_the_same_image_class_and_box():
    rows, labels = np.array([0, 0, 0, 1, 0, 0]), np.array([1, 1, 2, 1, 1, 1], np.int32)
    boxes = np.tile(np.float32([[1, 2, 3, 4]]), (6, 1))
    boxes[5, 0] = 0
    table = BoxTable(rows, labels, boxes, np.ones((6, 2), np.int64))
    assert table.duplicates().tolist().count(True) == 2
    assert not table.duplicates()[[2, 3, 5]].any()


def test_dataset_without_boxes(coco):
    coco.add_image(1)
    dataset = read_coco(*coco.write())
    table = BoxTable.of(dataset)
    assert table.sides_at((32, 32), "stretch").shape == (0, 2)
    assert class_counts(dataset, table) == [("cat", 0, 0), ("dog", 0, 0)]
