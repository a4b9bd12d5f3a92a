"""The count over all ranks, in one process; tests/test_distributed.py runs it in two."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, ops

from msdet.layers.shared_count import SharedCount


@pytest.mark.parametrize(("count", "expected"), [(0.0, 1.0), (0.5, 1.0), (7.0, 7.0)])
def test_the_count_of_one_process(count, expected):
    ms.set_context(mode=ms.GRAPH_MODE)
    assert float(SharedCount()(Tensor(count, ms.float32))) == expected


def test_the_count_has_no_gradient():
    ms.set_context(mode=ms.GRAPH_MODE)
    shared = SharedCount()

    def loss(x):
        return ops.reduce_sum(x) / shared(ops.reduce_sum(x))

    gradient = ms.grad(loss)(Tensor(np.float32([1, 3])))
    np.testing.assert_allclose(gradient.asnumpy(), [0.25, 0.25])


def test_the_total_count_is_divided_by_the_number_of_ranks(uncompiled, monkeypatch):
    """Four ranks, the other three with a count of 13: this rank divides by a quarter of the total."""
    monkeypatch.setattr("msdet.layers.shared_count.GlobalComm.INITED", True)
    monkeypatch.setattr("msdet.layers.shared_count.get_group_size", lambda: 4)
    monkeypatch.setattr("msdet.layers.shared_count.ops.AllReduce", lambda _: lambda count: count + 13)
    for added, minimum, expected in ((0.0, 1.0, 20 / 4), (1.0, 1.0, 21 / 4), (0.0, 50.0, 50 / 4)):
        shared = SharedCount(minimum, added)
        assert float(shared(Tensor(7.0, ms.float32))) == expected


@pytest.mark.parametrize(("count", "expected"), [(0.0, 1.0), (7.0, 8.0)])
def test_added_to_the_count(uncompiled, count, expected):
    assert float(SharedCount(added=1.0)(Tensor(count, ms.float32))) == expected
