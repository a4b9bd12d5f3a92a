"""The detection head of a YOLO: alternating convolutions followed by the predicting convolution."""

from __future__ import annotations

import math
from typing import Unpack

import mindspore as ms
import numpy as np
from mindspore import nn

from msdet.layers.conv import ConvBnAct, ConvOptions, init_uniform_fan_in
from msdet.models.yolo.decoder import ANCHORS_PER_SCALE


def alternating_convolutions(
    in_channels: int, width: int, count: int, **conv: Unpack[ConvOptions]
) -> nn.SequentialCell:
    """Alternating 1x1 convolutions to `width` channels and 3x3 ones to `2 * width`; first and last are 1x1.

    Args:
        in_channels: of the input.
        width: channels of the output.
        count: number of convolutions; odd.
        conv: see `ConvBnAct`.
    """
    layers = [ConvBnAct(in_channels, width, 1, **conv)]
    for _ in range(count // 2):
        layers += [ConvBnAct(width, 2 * width, 3, **conv), ConvBnAct(2 * width, width, 1, **conv)]
    return nn.SequentialCell(layers)


class DetectionBlock(nn.Cell):
    """Five alternating convolutions, then the head: (N, in, h, w) -> branch (N, width, h, w), raw map (N, out, h, w).

    Args:
        in_channels: of the input.
        width: channels after the 1x1 convolutions; the 3x3 ones have twice as many.
        out_channels: 3 * (5 + classes).
        objectness_prior: mean objectness of the untrained head, 0..1. Nearly all cells contain no object: with 0.5 the
            first hundreds of steps only learn that (Lin et al., Focal Loss, 2017, section 4.1).
        class_prior: mean probability of each class of the untrained head; 0.5 does not change the initialisation.
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
        init_uniform_fan_in(self.predict)
        add_prior_bias(self.predict, objectness_prior, class_prior)

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        branch = self.trunk(x)
        return branch, self.predict(self.expand(branch))


def add_prior_bias(predict: nn.Conv2d, objectness: float, classes: float) -> None:
    """Shifts the biases of objectness and classes so that their initial sigmoid is about the given priors (0..1)."""
    bias = predict.bias.asnumpy().reshape(ANCHORS_PER_SCALE, -1).copy()
    bias[:, 4] += math.log(objectness / (1 - objectness))
    bias[:, 5:] += math.log(classes / (1 - classes))
    predict.bias.set_data(ms.Tensor(bias.reshape(-1).astype(np.float32)))
