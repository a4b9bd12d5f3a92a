"""The anchors of RefineDet, and the boxes that its two regressions mean by them.

At every cell of the maps of strides 8, 16, 32, 64 stand three anchors around the cell's centre, of the area of a square
of 4 strides: the square, 2 : 1 and 1 : 2 (width : height). Rows are ordered by level, row, column, shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from msdet.layers.conv import widened

STRIDES = (8, 16, 32, 64)
_SIDE = 4.0
_RATIOS = (1.0, 2.0, 0.5)
ANCHORS_PER_CELL = len(_RATIOS)
# Offsets of centres and of logarithms of sides are learnt in these units (Caffe's SSD calls them variances).
CENTRE_UNIT, SIDE_UNIT = 0.1, 0.2

# Sides grow by at most e^20 a step: beyond any image, and exp stays finite where a network has only been drawn.
_MOST_GROWTH = 20.0


def make_anchors(height: int, width: int, clip: bool = False) -> np.ndarray:
    """Anchors float32 (P, 4) as centre x, centre y, width, height in pixels of an input of multiples of 64.

    Args:
        height, width: of the input.
        clip: cut the four numbers to the input's size, as luuuyi's port does: the centre stays, so an anchor may still
            stick out of the image, but is no larger than it.
    """
    levels = []
    for stride in STRIDES:
        y, x = np.meshgrid(np.arange(stride / 2, height, stride), np.arange(stride / 2, width, stride), indexing="ij")
        centres = np.repeat(np.stack((x.ravel(), y.ravel()), 1), ANCHORS_PER_CELL, 0)
        shapes = [(_SIDE * stride * ratio**0.5, _SIDE * stride / ratio**0.5) for ratio in _RATIOS]
        levels.append(np.concatenate((centres, np.tile(shapes, (x.size, 1))), 1))
    anchors = np.concatenate(levels)
    if clip:
        anchors = np.minimum(anchors, (width, height, width, height))
    return anchors.astype(np.float32)


@ops.constexpr
def anchor_columns(height: int, width: int, clip: bool) -> tuple[ms.Tensor, ...]:
    """Centre x, centre y, width, height as constants of the graph, each (1, P)."""
    return tuple(ms.Tensor(column[None]) for column in np.ascontiguousarray(make_anchors(height, width, clip).T))


def move(anchors: Sequence, loc: ms.Tensor) -> tuple:
    """Anchors, moved and stretched by a regression.

    Args:
        anchors: centre x, centre y, width, height, each (N, P) or (1, P).
        loc: (N, P, 4) offsets of the centre in sides of the anchor, and logarithms of the growth of the sides, in
            `CENTRE_UNIT` and `SIDE_UNIT`.

    Returns:
        as `anchors`, each (N, P).
    """
    x, y, w, h = anchors
    return (
        x + CENTRE_UNIT * loc[..., 0] * w,
        y + CENTRE_UNIT * loc[..., 1] * h,
        w * ops.exp(_limited(SIDE_UNIT * loc[..., 2])),
        h * ops.exp(_limited(SIDE_UNIT * loc[..., 3])),
    )


def objectness(arm_conf: ms.Tensor) -> ms.Tensor:
    """Probability (N, P) that an anchor holds an object, from the logits (N, P, 2) of background and object."""
    return ops.sigmoid(arm_conf[..., 1] - arm_conf[..., 0])


class RefineDetDecoder(nn.Cell):
    """Raw maps -> boxes (N, P, 4) xyxy in pixels of the network's input, scores (N, P, C) in 0..1.

    The first regression moves the anchors, the second moves what the first made of them. The scores of an anchor whose
    objectness is not above the threshold are 0.

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
                float16 is widened to float32.
            image_size: (height, width) in px, whole numbers known when the graph is compiled.
        """
        arm_loc, arm_conf, odm_loc, odm_conf = widened(raw_maps)
        anchors = anchor_columns(int(image_size[0]), int(image_size[1]), self.clip)
        x, y, w, h = move(move(anchors, arm_loc), odm_loc)
        boxes = ops.stack((x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h), 2)
        passes = ops.cast(objectness(arm_conf) > self.threshold, ms.float32)
        return boxes, self.softmax(odm_conf)[..., 1:] * ops.expand_dims(passes, 2)


def _limited(x: ms.Tensor) -> ms.Tensor:
    return x - ops.relu(x - _MOST_GROWTH)
