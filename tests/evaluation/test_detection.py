"""The detection task: boxes in the original image, and scores."""

import json
import logging

import numpy as np
import pytest

from msdet.evaluation.coco.score import CocoResult
from msdet.evaluation.detection import DetectionTask
from tests.evaluation.evaluators import PerfectDetector, evaluator, scored

pytestmark = pytest.mark.usefixtures("at_root")


def test_detections_are_clipped_to_their_image(folder, tmp_path):
    class WideDetector(PerfectDetector):
        margin = 9.0

    with evaluator(folder, kind=WideDetector) as wide:
        wide.collect(tmp_path / "found.json")
    records = {record["image_id"]: record["bbox"] for record in json.loads((tmp_path / "found.json").read_text())}
    assert records[1][:2] == [0, 0]
    assert (records[2][0] + records[2][2], records[2][1] + records[2][3]) == (80, 60)


def test_detections_of_unused_class_ids_are_accepted(folder, tmp_path, caplog):
    """An untrained network may detect only classes whose ids the dataset does not use."""

    class UnusedClassDetector(PerfectDetector):
        def predict(self, batch):
            boxes, scores = super().predict(batch)
            return boxes, np.where(np.arange(scores.shape[2]) == 9, scores.max(2, keepdims=True), 0)

    # The annotations have the ids 3 and 7, the network ten outputs.
    flags = ("--label_map=coco_id_minus_1", "--num_classes=10", "--class_names=cat,dog")
    with caplog.at_level(logging.WARNING), evaluator(folder, *flags, kind=UnusedClassDetector) as lost:
        assert scored(lost, tmp_path / "found.json").ap == 0
    assert "belong together" not in caplog.text


def test_headline_scores_match_their_names():
    """The first one selects the best weights."""
    result = CocoResult((0.25, 0.5, *[0.1] * 10), [], 1, 1)
    scores = dict(zip(DetectionTask.SCORE_NAMES, DetectionTask.headline_scores(None, result), strict=True))
    assert scores == {"AP": 0.25, "AP50": 0.5}
    assert next(iter(scores)) == "AP"
