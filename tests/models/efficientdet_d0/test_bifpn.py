"""The feature pyramid of EfficientDet: fusion against its definition, and the connections of a layer."""

import numpy as np
import pytest
from mindspore import Tensor, nn

from msdet.models.efficientdet_d0.bifpn import BiFpn, BiFpnLayer, WeightedMean

pytestmark = pytest.mark.usefixtures("uncompiled")


def test_the_weighted_mean_ignores_negative_weights():
    maps = [np.random.default_rng(i).standard_normal((2, 3, 4, 4)).astype(np.float32) for i in range(3)]
    weights = np.float32([1, -2, 3])
    found = WeightedMean()(Tensor(weights), tuple(map(Tensor, maps))).asnumpy()
    np.testing.assert_allclose(found, (maps[0] + 3 * maps[2]) / (4 + 1e-4), rtol=1e-5)


class Recorded(nn.Cell):
    """A node that adds up its inputs and records their number."""

    def __init__(self, name, calls):
        super().__init__()
        self.node, self.calls = name, calls

    def construct(self, *maps):
        self.calls[self.node] = len(maps)
        return sum(maps[1:], maps[0])


def test_the_connections_of_a_layer():
    """Constant maps of powers of ten show which inputs reach which output, and how often."""
    layer, calls = BiFpnLayer(1, "ignore"), {}
    for node in ("p6_down", "p5_down", "p4_down", "p3_out", "p4_out", "p5_out", "p6_out", "p7_out"):
        setattr(layer, node, Recorded(node, calls))
    down = [Tensor(np.full((1, 1, size, size), 10.0**i, np.float32)) for i, size in enumerate((16, 8, 4, 2, 1))]
    up = [Tensor(np.full((1, 1, size, size), 10.0**i, np.float32)) for i, size in ((5, 8), (6, 4))]
    found = [float(x.asnumpy().mean()) for x in layer(tuple(down), tuple(up))]
    p7, p6, p5, p4 = 1e4, 1e3 + 1e4, 1e2 + 1e3 + 1e4, 1e1 + 1e2 + 1e3 + 1e4
    p3_out = 1 + p4
    p4_out = 1e5 + p4 + p3_out
    p5_out = 1e6 + p5 + p4_out
    p6_out = 1e3 + p6 + p5_out
    np.testing.assert_allclose(found, [p3_out, p4_out, p5_out, p6_out, p7 + p6_out], rtol=1e-6)
    assert calls == {"p6_down": 2, "p5_down": 2, "p4_down": 2, "p3_out": 2, "p4_out": 3, "p5_out": 3, "p6_out": 3,
                     "p7_out": 2}  # fmt: skip


def test_shapes_of_the_pyramid():
    pyramid = BiFpn((4, 5, 6), 8, repeats=2).set_train(False)
    maps = [Tensor(np.zeros((1, c, size, size), np.float32)) for c, size in ((4, 16), (5, 8), (6, 4))]
    assert [x.shape for x in pyramid(*maps)] == [(1, 8, size, size) for size in (16, 8, 4, 2, 1)]
