"""Images with detections next to the ground truth."""

import numpy as np
import pytest

from msdet.evaluation import images as result_images
from msdet.evaluation.result_file import DetectionWriter
from msdet.ops.postprocess import Detections
from tests.evaluation.evaluators import opened

pytestmark = pytest.mark.usefixtures("at_root")


def test_detections_with_a_score_of_at_least_0_3_are_drawn(folder, tmp_path, monkeypatch):
    drawn, real = [], result_images.draw_boxes
    monkeypatch.setattr(result_images, "draw_boxes", lambda *args: (drawn.append(args[1:]), real(*args))[1])
    dataset, _ = opened(folder)
    boxes = np.float32([[0, 0, 10, 10], [10, 10, 30, 30], [5, 5, 9, 9]])
    with DetectionWriter(tmp_path / "found.json", dataset.category_ids) as writer:
        writer.write(1, Detections(boxes, np.float32([0.31, 0.29, 0.9]), np.int32([0, 0, 1])))
    (path,) = result_images.draw_results(dataset, tmp_path / "found.json", tmp_path / "out", 1)
    assert path.name == "1.jpg"
    (shown, labels, names, scores), (truth, own, *_) = drawn
    np.testing.assert_allclose(shown, boxes[[0, 2]])
    np.testing.assert_allclose(scores, [0.31, 0.9])
    assert labels.tolist() == [0, 1] and names == ["cat", "dog"]
    np.testing.assert_allclose(truth, [[0, 0, 40, 30]])
    assert own.tolist() == [0]
