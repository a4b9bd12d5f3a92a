"""Canvases and random boxes for the tests of transforms."""

import numpy as np


def canvas_of(size=(96, 128)):
    return np.empty((*size, 3), np.uint8)


def boxes_in(image, count=6, seed=0):
    corners = np.sort(np.random.default_rng(seed).uniform(0, 1, (count, 2, 2)), axis=1)
    height, width = image.shape[:2]
    return (corners * [width, height]).reshape(count, 4).astype(np.float32), np.arange(count, dtype=np.int32)
