"""The predictor of a checkpoint: batches of any size."""

import json

import cv2
import numpy as np
import pytest
from mindspore import Tensor

from msdet.evaluation.predictor import CheckpointPredictor
from tests.evaluation.evaluators import evaluator

pytestmark = pytest.mark.usefixtures("at_root")


class BrightnessPredictor(CheckpointPredictor):
    """Its network returns one box per image, whose score is the brightness of the image."""

    def __init__(self, recipe, dataset):
        self.batch_size = recipe.cfg.eval_batch_size

        def predict(images, valid_sizes):
            bright = images.asnumpy().mean((1, 2, 3)) / 255
            boxes = np.tile(np.float32([8, 8, 40, 40]), (len(bright), 1, 1))
            return Tensor(boxes), Tensor(np.tile(np.float32(bright)[:, None, None], (1, 1, len(dataset.class_names))))

        self.cell = predict


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_detections_belong_to_their_image_for_any_batch_size(folder, tmp_path, batch):
    """Also in the last batch, which is padded."""
    tones = {1: 40, 2: 120, "three": 200}
    for image_id, tone in tones.items():
        height, width = (80, 60) if image_id == "three" else (60, 80)
        cv2.imwrite(str(folder.image_dir / f"{image_id}.jpg"), np.full((height, width, 3), tone, np.uint8))
    with evaluator(folder, f"--eval_batch_size={batch}", kind=BrightnessPredictor) as seeing:
        seeing.collect(tmp_path / "found.json")
    scores = {record["image_id"]: record["score"] for record in json.loads((tmp_path / "found.json").read_text())}
    assert set(scores) == set(tones)
    assert scores[1] < scores[2] < scores["three"]
