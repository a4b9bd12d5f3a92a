"""The part of a YOLO that stands before each raw map: alternating convolutions and the convolution that predicts."""

from __future__ import annotations

import math
from typing import Unpack

import mindspore as ms
import numpy as np
from mindspore import nn

from msdet.layers.conv import ConvBnAct, ConvOptions, fan_in_uniform
from msdet.models.yolo.decoder import ANCHORS_PER_SCALE


def alternating_convolutions(
    in_channels: int, width: int, count: int, **conv: Unpack[ConvOptions]
) -> nn.SequentialCell:
    """1x1 convolutions to `width` channels and 3x3 ones to twice as many in turn, beginning and ending with a 1x1.

    Args:
        in_channels: of the map that comes in.
        width: channels of the map that goes out.
        count: of the convolutions; odd.
        conv: see `ConvBnAct`.
    """
    layers = [ConvBnAct(in_channels, width, 1, **conv)]
    for _ in range(count // 2):
        layers += [ConvBnAct(width, 2 * width, 3, **conv), ConvBnAct(2 * width, width, 1, **conv)]
    return nn.SequentialCell(layers)


class DetectionBlock(nn.Cell):
    """Five alternating convolutions, then the head: (N, in, h, w) -> branch (N, width, h, w), raw map (N, out, h, w).

    Args:
        in_channels: of the map that comes in.
        width: channels after the 1x1 convolutions; the 3x3 ones have twice as many.
        out_channels: 3 * (5 + classes).
        objectness_prior: mean objectness of the untrained head, 0..1. Nearly all cells hold no object: with 0.5 the
            first hundreds of steps are spent on learning that (Lin et al., Focal Loss, 2017, section 4.1).
        class_prior: the same of each class; 0.5 leaves it as drawn.
        conv: padding, bn_momentum and bn_eps of `ConvBnAct`.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        objectness_prior: float,
        class_prior: float = 0.5,
        **conv: Unpack[ConvOptions],
    ) -> None:
        super().__init__()
        self.trunk = alternating_convolutions(in_channels, width, 5, **conv)
        self.expand = ConvBnAct(width, 2 * width, 3, **conv)
        self.predict = nn.Conv2d(2 * width, out_channels, 1, has_bias=True)
        fan_in_uniform(self.predict)
        start_at_priors(self.predict, objectness_prior, class_prior)

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        branch = self.trunk(x)
        return branch, self.predict(self.expand(branch))


def start_at_priors(predict: nn.Conv2d, objectness: float, classes: float) -> None:
    """Moves the biases of objectness and classes so that their sigmoid is about this (0..1) before any training."""
    bias = predict.bias.asnumpy().reshape(ANCHORS_PER_SCALE, -1).copy()
    bias[:, 4] += math.log(objectness / (1 - objectness))
    bias[:, 5:] += math.log(classes / (1 - classes))
    predict.bias.set_data(ms.Tensor(bias.reshape(-1).astype(np.float32)))
