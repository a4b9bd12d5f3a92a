"""The anchors of EfficientDet, and the boxes that its regression means by them.

At every cell of the maps of strides 8 to 128 stand nine anchors around the cell's centre: sides of 4 strides times
2^(0, 1/3, 2/3), each as a square, 1.4 : 0.7 and 0.7 : 1.4. Rows are ordered by level, row, column, scale, shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from msdet.layers.conv import widened

STRIDES = (8, 16, 32, 64, 128)
_SIDE = 4.0
_SCALES = (2 ** (0 / 3), 2 ** (1 / 3), 2 ** (2 / 3))
# Width and height as parts of the side. They are not exactly of area 1: published weights were trained on these.
_SHAPES = ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))
ANCHORS_PER_CELL = len(_SCALES) * len(_SHAPES)

# Sides grow by at most e^20: beyond any image, and exp stays finite where a network has only been drawn.
_MOST_GROWTH = 20.0


def anchor_shapes() -> np.ndarray:
    """Width and height (9, 2) in strides, float64, in the order of the rows."""
    return np.array([(_SIDE * scale * w, _SIDE * scale * h) for scale in _SCALES for w, h in _SHAPES])


def make_anchors(height: int, width: int) -> np.ndarray:
    """Anchors float32 (A, 4) as centre x, centre y, width, height in pixels of an input of multiples of 128."""
    levels = []
    for stride in STRIDES:
        y, x = np.meshgrid(np.arange(stride / 2, height, stride), np.arange(stride / 2, width, stride), indexing="ij")
        centres = np.repeat(np.stack((x.ravel(), y.ravel()), 1), ANCHORS_PER_CELL, 0)
        levels.append(np.concatenate((centres, np.tile(stride * anchor_shapes(), (x.size, 1))), 1))
    return np.concatenate(levels).astype(np.float32)


@ops.constexpr
def _anchor_columns(height: int, width: int) -> tuple[ms.Tensor, ...]:
    """Centre x, centre y, width, height as constants of the graph, each (1, A)."""
    return tuple(ms.Tensor(column[None]) for column in np.ascontiguousarray(make_anchors(height, width).T))


class EfficientDetDecoder(nn.Cell):
    """Raw maps -> boxes (N, A, 4) xyxy in pixels of the network's input, scores (N, A, C) in 0..1."""

    def construct(self, raw_maps: tuple, image_size: Sequence[int]) -> tuple[ms.Tensor, ms.Tensor]:
        """Decodes.

        Args:
            raw_maps: regression (N, A, 4) as dy, dx, dh, dw, classification logits (N, A, C);
                float16 is widened to float32.
            image_size: (height, width) in px, whole numbers known when the graph is compiled.
        """
        regression, logits = widened(raw_maps)
        x, y, w, h = _anchor_columns(int(image_size[0]), int(image_size[1]))
        centre_y = regression[..., 0] * h + y
        centre_x = regression[..., 1] * w + x
        half_h = ops.exp(_limited(regression[..., 2])) * (h * 0.5)
        half_w = ops.exp(_limited(regression[..., 3])) * (w * 0.5)
        boxes = ops.stack((centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h), 2)
        return boxes, ops.sigmoid(logits)


def _limited(x: ms.Tensor) -> ms.Tensor:
    return x - ops.relu(x - _MOST_GROWTH)
