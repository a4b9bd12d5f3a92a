"""Normalisation with padding after it, against the order of operations of the published EfficientDets."""

import cv2
import numpy as np
import pytest
from mindspore import Tensor

from msdet.config import load_config
from msdet.data.transforms.pipeline import Pipeline
from msdet.data.transforms.resize import resize_for_eval
from msdet.models.efficientdet_d0.preprocess import PadAfterPreprocess
from msdet.models.recipe import get_recipe

pytestmark = pytest.mark.usefixtures("graph_mode")

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def published(image, size):
    """Normalise, resize as float, pad with 0."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    new_w, new_h = (int(width * scale), size) if height > width else (size, int(height * scale))
    resized = cv2.resize((image.astype(np.float32) / 255 - MEAN) / STD, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
    canvas = np.zeros((size, size, 3), np.float32)
    canvas[:new_h, :new_w] = resized
    return canvas.transpose(2, 0, 1), (new_h, new_w)


@pytest.mark.parametrize("shape", [(427, 640), (500, 333), (90, 61), (128, 128), (640, 11)])
def test_against_the_published_order(shape):
    smooth = cv2.resize(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8), shape[::-1])
    image = np.clip(smooth + np.random.default_rng(1).integers(-20, 20, smooth.shape), 0, 255).astype(np.uint8)
    expected, valid = published(image, 128)
    canvas, geometry = resize_for_eval(image, (128, 128), "letterbox_top_left", "linear", 99)
    assert geometry.valid_size == valid
    cell = PadAfterPreprocess(MEAN.tolist(), STD.tolist())
    ours = cell(Tensor(canvas[None]), Tensor(np.int32([valid]))).asnumpy()[0]
    # Resizing whole grey levels rounds: at most about one of them, 1 / 255 / 0.224 = 0.0175, half of one on average.
    assert np.abs(ours - expected).max() <= 0.0176
    assert np.abs(ours - expected).mean() <= 0.006
    assert not ours[:, valid[0] :].any() and not ours[:, :, valid[1] :].any()
    assert cell.uses_valid_sizes


def test_mirrored_images_stay_at_the_top_left():
    recipe = get_recipe(load_config("configs/efficientdet_d0_seed.yaml", ["--flip_probability", "1"]))
    pipeline = recipe.train_pipeline()
    assert isinstance(pipeline, Pipeline) and not pipeline.after
    image = np.zeros((100, 50, 3), np.uint8)
    image[:, :10] = 255
    box = np.float32([[0, 0, 10, 100]])
    canvas = np.full((128, 128, 3), 7, np.uint8)
    rng = np.random.default_rng(0)
    boxes, _, geometry = pipeline((image.copy(), box, np.int32([0])), canvas, rng)
    assert geometry.valid_size == (128, 64)
    np.testing.assert_allclose(boxes, [[40 * 1.28, 0, 64, 128]])
    assert canvas[64, 60].tolist() == [255, 255, 255] and canvas[64, 5].tolist() == [0, 0, 0]
