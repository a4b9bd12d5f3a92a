"""The anchors of RefineDet and the decoder of its two regressions.

Every cell of the maps of strides 8, 16, 32, 64 has three anchors at its centre, with the area of a square of 4 strides
and the aspect ratios 1 : 1, 2 : 1 and 1 : 2 (width : height). Anchors are ordered by level, row, column, aspect ratio.
"""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from msdet.layers.conv import to_float32

STRIDES = (8, 16, 32, 64)
_SIDE = 4.0
_RATIOS = (1.0, 2.0, 0.5)
ANCHORS_PER_CELL = len(_RATIOS)
# Units of the regression of centres and of logarithms of sides ("variances" in the SSD of Caffe).
CENTRE_UNIT, SIDE_UNIT = 0.1, 0.2

# Sides grow by at most e^20 per step, beyond any image, so that exp stays finite in an untrained network.
_MAX_LOG_GROWTH = 20.0


def make_anchors(height: int, width: int, clip: bool = False) -> np.ndarray:
    """Anchors float32 (P, 4) as centre x, centre y, width, height in px, for an input size of multiples of 64 px.

    Args:
        height, width: of the input.
        clip: limit the four numbers to the size of the input, as the port of luuuyi does: centres stay, so an anchor
            may still extend beyond the image, but is not larger than it.
    """
    levels = []
    for stride in STRIDES:
        y, x = np.meshgrid(np.arange(stride / 2, height, stride), np.arange(stride / 2, width, stride), indexing="ij")
        centres = np.repeat(np.stack((x.ravel(), y.ravel()), 1), ANCHORS_PER_CELL, 0)
        sizes = [(_SIDE * stride * ratio**0.5, _SIDE * stride / ratio**0.5) for ratio in _RATIOS]
        levels.append(np.concatenate((centres, np.tile(sizes, (x.size, 1))), 1))
    anchors = np.concatenate(levels)
    if clip:
        anchors = np.minimum(anchors, (width, height, width, height))
    return anchors.astype(np.float32)


@ops.constexpr
def anchor_columns(height: int, width: int, clip: bool) -> tuple[ms.Tensor, ...]:
    """Centre x, centre y, width, height as constants of the graph, each (1, P)."""
    return tuple(ms.Tensor(column[None]) for column in np.ascontiguousarray(make_anchors(height, width, clip).T))


def apply_regression(anchors: Sequence, loc: ms.Tensor) -> tuple:
    """Moves and scales anchors by a regression.

    Args:
        anchors: centre x, centre y, width, height, each (N, P) or (1, P).
        loc: (N, P, 4) offset of the centre relative to the sides of the anchor, in `CENTRE_UNIT`, and logarithm of the
            scale of the sides, in `SIDE_UNIT`.

    Returns:
        centre x, centre y, width, height, each (N, P).
    """
    x, y, w, h = anchors
    return (
        x + CENTRE_UNIT * loc[..., 0] * w,
        y + CENTRE_UNIT * loc[..., 1] * h,
        w * ops.exp(_clamp(SIDE_UNIT * loc[..., 2])),
        h * ops.exp(_clamp(SIDE_UNIT * loc[..., 3])),
    )


def objectness(arm_conf: ms.Tensor) -> ms.Tensor:
    """Probability (N, P) that an anchor contains an object, from the logits (N, P, 2) of background and object."""
    return ops.sigmoid(arm_conf[..., 1] - arm_conf[..., 0])


class RefineDetDecoder(nn.Cell):
    """Raw maps -> boxes (N, P, 4) xyxy in pixels of the network input, scores (N, P, C) in 0..1.

    The first regression refines the anchors, the second is applied to the result. Anchors whose objectness does not
    exceed the threshold score 0.

    Args:
        objectness_threshold: 0..1; Zhang et al., section 3.2: theta = 0.01.
        clip_anchors: see `make_anchors`.
    """

    def __init__(self, objectness_threshold: float = 0.01, clip_anchors: bool = False) -> None:
        super().__init__()
        self.threshold = objectness_threshold
        self.clip = clip_anchors
        self.softmax = nn.Softmax(-1)

    def construct(self, raw_maps: tuple, image_size: Sequence[int]) -> tuple[ms.Tensor, ms.Tensor]:
        """Decodes.

        Args:
            raw_maps: arm_loc (N, P, 4), arm_conf (N, P, 2), odm_loc (N, P, 4), odm_conf (N, P, C + 1) logits;
                float16 is converted to float32.
            image_size: (height, width) in px, integers known when the graph is compiled.
        """
        arm_loc, arm_conf, odm_loc, odm_conf = to_float32(raw_maps)
        anchors = anchor_columns(int(image_size[0]), int(image_size[1]), self.clip)
        x, y, w, h = apply_regression(apply_regression(anchors, arm_loc), odm_loc)
        boxes = ops.stack((x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h), 2)
        passes = ops.cast(objectness(arm_conf) > self.threshold, ms.float32)
        return boxes, self.softmax(odm_conf)[..., 1:] * ops.expand_dims(passes, 2)


def _clamp(x: ms.Tensor) -> ms.Tensor:
    return x - ops.relu(x - _MAX_LOG_GROWTH)
