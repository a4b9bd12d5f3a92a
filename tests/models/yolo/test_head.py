"""The detection head of the YOLOs: shapes, and the priors of an untrained network."""

import numpy as np
import pytest
from mindspore import Tensor, nn

from msdet.layers.conv import ConvBnAct
from msdet.models.yolo.head import DetectionBlock, add_prior_bias, alternating_convolutions

pytestmark = pytest.mark.usefixtures("uncompiled")


@pytest.mark.parametrize("count", [1, 3, 5])
def test_convolutions_alternate(count):
    layers = alternating_convolutions(6, 4, count)
    shapes = [cell.conv.weight.shape for _, cell in layers.cells_and_names() if isinstance(cell, ConvBnAct)]
    expected = [(4, 6, 1, 1)] + [(8, 4, 3, 3), (4, 8, 1, 1)] * (count // 2)
    assert shapes == expected


def test_the_branch_leaves_before_the_prediction():
    block = DetectionBlock(6, 4, 21, objectness_prior=0.5).set_train(False)
    x = Tensor(np.random.default_rng(0).standard_normal((2, 6, 3, 5)).astype(np.float32))
    branch, raw = block(x)
    assert branch.shape == (2, 4, 3, 5) and raw.shape == (2, 21, 3, 5)
    np.testing.assert_allclose(branch.asnumpy(), block.trunk(x).asnumpy(), rtol=1e-6)


def test_priors_are_added_to_the_biases_of_objectness_and_classes():
    conv = nn.Conv2d(4, 3 * 7, 1, has_bias=True)
    before = conv.bias.asnumpy().reshape(3, 7).copy()
    add_prior_bias(conv, 0.01, 0.1)
    change = conv.bias.asnumpy().reshape(3, 7) - before
    np.testing.assert_allclose(change[:, :4], 0)
    np.testing.assert_allclose(1 / (1 + np.exp(-change[:, 4])), 0.01, rtol=1e-5)
    np.testing.assert_allclose(1 / (1 + np.exp(-change[:, 5:])), 0.1, rtol=1e-5)
