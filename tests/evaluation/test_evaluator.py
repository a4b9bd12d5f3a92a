"""The evaluator with a perfect predictor, and stop requests."""

import pytest

from msdet.evaluation.detection import DetectionTask
from msdet.evaluation.detection_table import read_detections
from msdet.evaluation.evaluator import EvaluationStopped, Evaluator
from msdet.models.recipe import get_recipe
from msdet.runtime.start import Runtime
from msdet.runtime.stop import StopRequest
from tests.evaluation.evaluators import PerfectDetector, evaluator, opened, scored

pytestmark = pytest.mark.usefixtures("at_root")


def test_perfect_predictions_score_one(folder, tmp_path):
    with evaluator(folder) as perfect:
        result = scored(perfect, tmp_path / "found.json")
        assert perfect.task.score(read_detections(tmp_path / "found.json")) == result
        assert scored(perfect) == result  # without a file
    assert result.ap == 1 and result.images == 3


def test_the_ground_truth_is_read_when_the_evaluator_is_created(folder, tmp_path):
    """Changing or deleting the annotation file during a training has no effect."""
    with evaluator(folder) as perfect:
        folder.ann_file.unlink()
        assert scored(perfect, tmp_path / "found.json").ap == 1


def test_a_stop_request_ends_the_evaluation(folder):
    dataset, cfg = opened(folder)
    recipe, stop = get_recipe(cfg), StopRequest()
    stop.is_polled = True

    class Stops(PerfectDetector):
        def predict(self, batch):
            stop.make()
            return super().predict(batch)

    task = DetectionTask(recipe, dataset)
    with (
        Evaluator(task, Stops(recipe, dataset), Runtime("CPU"), stop) as stopped,
        pytest.raises(EvaluationStopped),
    ):
        stopped.collect()
