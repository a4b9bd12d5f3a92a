"""Datasets: pickling and filtering."""

import pickle

import numpy as np

from msdet.data.formats.coco.read import read_coco


def test_pickling(many):
    dataset = read_coco(many.ann_file, many.image_dir)
    again = pickle.loads(pickle.dumps(dataset))
    assert len(again) == len(dataset)
    assert (again.class_names, again.category_ids, again.report) == (
        dataset.class_names,
        dataset.category_ids,
        dataset.report,
    )
    for one, other in zip(dataset.samples, again.samples, strict=True):
        assert (one.image_path, one.image_id, one.width, one.height) == (
            other.image_path,
            other.image_id,
            other.width,
            other.height,
        )
        for name in ("boxes", "labels", "iscrowd"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            assert getattr(one, name).dtype == getattr(other, name).dtype


def test_columns_of_the_scorers_are_not_pickled(many):
    dataset = read_coco(many.ann_file, many.image_dir)
    assert dataset.xywh is not None
    again = pickle.loads(pickle.dumps(dataset))
    assert again.xywh is None and again.areas is None


def test_all_columns_are_filtered_alike(coco):
    coco.add_image(1, boxes=[[1, 2, 10, 20]], category_id=7)
    coco.add_box(1, [2, 2, 11, 21], difficult=1, area=5)
    coco.add_box(1, [3, 2, 12, 22], iscrowd=1, area=6)
    coco.add_image(2, boxes=[[4, 2, 13, 23]])
    coco.add_box(2, [5, 2, 14, 24], difficult=1, iscrowd=1, area=7)
    dataset = read_coco(*coco.write())
    easy = dataset.without_difficult()
    assert [sample.boxes[:, 0].tolist() for sample in easy.samples] == [[1, 3], [4]]
    assert [sample.iscrowd.tolist() for sample in easy.samples] == [[False, True], [False]]
    assert [sample.labels.tolist() for sample in easy.samples] == [[1, 0], [0]]
    assert not any(sample.difficult.any() for sample in easy.samples)
    assert easy.xywh[:, 0].tolist() == [1, 3, 4]
    np.testing.assert_array_equal(easy.areas, [np.nan, 6, np.nan])
    second = dataset.without_images([0])
    assert [sample.image_id for sample in second.samples] == [2] and second.skipped_image_ids == {1}
    assert second.xywh[:, 0].tolist() == [4, 5]
    np.testing.assert_array_equal(second.areas, [np.nan, 7])
    assert dataset.without_images([]) is dataset
