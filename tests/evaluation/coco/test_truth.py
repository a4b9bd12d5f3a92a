"""The ground truth for scoring: a part of a dataset, and areas."""

import pytest

from msdet.evaluation.coco.score import BACKENDS, score_detections
from msdet.evaluation.coco.truth import read_ground_truth
from tests.evaluation.coco.small import FOUND, SMALL, write


@pytest.mark.parametrize("backend", BACKENDS)
def test_ground_truth_of_some_images_and_categories(tmp_path, backend):
    ann_file = write(tmp_path / "a.json", SMALL)
    result = score_detections(read_ground_truth(ann_file, image_ids=[7]), FOUND, backend)
    assert (result.images, result.detections) == (1, 2)
    assert [score.boxes for score in result.per_class] == [1, 0, 0]
    assert result.ap == pytest.approx(1)
    result = score_detections(read_ground_truth(ann_file, category_ids=[9]), FOUND, backend)
    assert [score.name for score in result.per_class] == ["dog"]
    assert result.ap == pytest.approx(0.5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_annotations_without_area_use_that_of_the_box(tmp_path, backend):
    bare = [{key: a[key] for key in ("id", "image_id", "category_id", "bbox")} for a in SMALL["annotations"]]
    result = score_detections(write(tmp_path / "b.json", SMALL | {"annotations": bare}), FOUND, backend)
    assert result.stats == score_detections(write(tmp_path / "a.json", SMALL), FOUND, backend).stats
