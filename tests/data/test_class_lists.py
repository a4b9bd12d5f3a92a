"""Classes of published weights."""

import pytest

from msdet.data.class_lists import published_classes


@pytest.mark.parametrize(
    ("num_classes", "label_map", "number", "first", "last"),
    [
        (80, "dense", 80, (1, "person"), (90, "toothbrush")),
        (20, "dense", 20, (1, "aeroplane"), (20, "tvmonitor")),
        (90, "coco_id_minus_1", 80, (1, "person"), (90, "toothbrush")),
    ],
)
def test_public_datasets(num_classes, label_map, number, first, last):
    names, ids = published_classes(num_classes, label_map)
    assert len(names) == len(ids) == number
    assert ((ids[0], names[0]), (ids[-1], names[-1])) == (first, last)


@pytest.mark.parametrize(("num_classes", "label_map"), [(7, "dense"), (90, "dense"), (80, "coco_id_minus_1")])
def test_other_numbers_of_classes(num_classes, label_map):
    assert published_classes(num_classes, label_map) == ((), ())
