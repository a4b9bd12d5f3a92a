"""The anchors of EfficientDet and the decoder of its regression.

Every cell of the maps of strides 8 to 128 has nine anchors at its centre: sides of 4 strides times 2^(0, 1/3, 2/3),
each with the aspect ratios 1 : 1, 1.4 : 0.7 and 0.7 : 1.4. Anchors are ordered by level, row, column, scale, aspect
ratio.
"""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from msdet.layers.conv import to_float32

STRIDES = (8, 16, 32, 64, 128)
_SIDE = 4.0
_SCALES = (2 ** (0 / 3), 2 ** (1 / 3), 2 ** (2 / 3))
# Width and height relative to the side. Their area is not exactly 1: published weights were trained with these.
_ASPECTS = ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))
ANCHORS_PER_CELL = len(_SCALES) * len(_ASPECTS)

# Sides grow by at most e^20, beyond any image, so that exp stays finite in an untrained network.
_MAX_LOG_GROWTH = 20.0


def anchor_sizes() -> np.ndarray:
    """Width and height of the anchors of a cell in strides, float64 (9, 2)."""
    return np.array([(_SIDE * scale * w, _SIDE * scale * h) for scale in _SCALES for w, h in _ASPECTS])


def make_anchors(height: int, width: int) -> np.ndarray:
    """Anchors float32 (A, 4) as centre x, centre y, width, height in px, for an input size of multiples of 128 px."""
    levels = []
    for stride in STRIDES:
        y, x = np.meshgrid(np.arange(stride / 2, height, stride), np.arange(stride / 2, width, stride), indexing="ij")
        centres = np.repeat(np.stack((x.ravel(), y.ravel()), 1), ANCHORS_PER_CELL, 0)
        levels.append(np.concatenate((centres, np.tile(stride * anchor_sizes(), (x.size, 1))), 1))
    return np.concatenate(levels).astype(np.float32)


@ops.constexpr
def _anchor_columns(height: int, width: int) -> tuple[ms.Tensor, ...]:
    """Centre x, centre y, width, height as constants of the graph, each (1, A)."""
    return tuple(ms.Tensor(column[None]) for column in np.ascontiguousarray(make_anchors(height, width).T))


class EfficientDetDecoder(nn.Cell):
    """Raw maps -> boxes (N, A, 4) xyxy in pixels of the network input, scores (N, A, C) in 0..1."""

    def construct(self, raw_maps: tuple, image_size: Sequence[int]) -> tuple[ms.Tensor, ms.Tensor]:
        """Decodes.

        Args:
            raw_maps: regression (N, A, 4) as dy, dx, dh, dw, classification logits (N, A, C);
                float16 is converted to float32.
            image_size: (height, width) in px, integers known when the graph is compiled.
        """
        regression, logits = to_float32(raw_maps)
        x, y, w, h = _anchor_columns(int(image_size[0]), int(image_size[1]))
        centre_y = regression[..., 0] * h + y
        centre_x = regression[..., 1] * w + x
        half_h = ops.exp(_clamp(regression[..., 2])) * (h * 0.5)
        half_w = ops.exp(_clamp(regression[..., 3])) * (w * 0.5)
        boxes = ops.stack((centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h), 2)
        return boxes, ops.sigmoid(logits)


def _clamp(x: ms.Tensor) -> ms.Tensor:
    return x - ops.relu(x - _MAX_LOG_GROWTH)
