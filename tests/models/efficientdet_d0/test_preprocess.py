"""Normalisation followed by zero padding, against the published EfficientDets."""

import cv2
import numpy as np
import pytest
from mindspore import Tensor

from msdet.data.transforms.resize import resize_for_eval
from msdet.models.efficientdet_d0.preprocess import PadAfterPreprocess

pytestmark = pytest.mark.usefixtures("graph_mode")

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def published(image, size):
    """Reference: normalise, resize in float, pad with 0."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    new_w, new_h = (int(width * scale), size) if height > width else (size, int(height * scale))
    resized = cv2.resize((image.astype(np.float32) / 255 - MEAN) / STD, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
    canvas = np.zeros((size, size, 3), np.float32)
    canvas[:new_h, :new_w] = resized
    return canvas.transpose(2, 0, 1), (new_h, new_w)


@pytest.mark.parametrize("shape", [(427, 640), (500, 333), (90, 61), (128, 128), (640, 11)])
def test_against_the_published_preprocessing(shape):
    smooth = cv2.resize(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8), shape[::-1])
    image = np.clip(smooth + np.random.default_rng(1).integers(-20, 20, smooth.shape), 0, 255).astype(np.uint8)
    expected, valid = published(image, 128)
    canvas, geometry = resize_for_eval(image, (128, 128), "letterbox_top_left", "linear", 99)
    assert geometry.valid_size == valid
    cell = PadAfterPreprocess(MEAN.tolist(), STD.tolist())
    ours = cell(Tensor(canvas[None]), Tensor(np.int32([valid]))).asnumpy()[0]
    # Resizing uint8 rounds by at most about one grey level, 1 / 255 / 0.224 = 0.0175, and by half of it on average.
    assert np.abs(ours - expected).max() <= 0.0176
    assert np.abs(ours - expected).mean() <= 0.006
    assert not ours[:, valid[0] :].any() and not ours[:, :, valid[1] :].any()
    assert cell.uses_valid_sizes
