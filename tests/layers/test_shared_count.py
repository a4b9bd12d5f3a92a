"""The count of a whole batch: in one process; tests/test_distributed.py has it in two."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, ops

from msdet.layers.shared_count import SharedCount


@pytest.mark.parametrize(("count", "expected"), [(0.0, 1.0), (0.5, 1.0), (7.0, 7.0)])
def test_one_process_keeps_its_count(count, expected):
    ms.set_context(mode=ms.GRAPH_MODE)
    assert float(SharedCount()(Tensor(count, ms.float32))) == expected


def test_no_gradient_goes_through_it():
    ms.set_context(mode=ms.GRAPH_MODE)
    shared = SharedCount()

    def loss(x):
        return ops.reduce_sum(x) / shared(ops.reduce_sum(x))

    gradient = ms.grad(loss)(Tensor(np.float32([1, 3])))
    np.testing.assert_allclose(gradient.asnumpy(), [0.25, 0.25])


def test_a_count_of_several_ranks_is_divided_by_their_number(uncompiled, monkeypatch):
    """Four ranks of which the others count 13: what this rank divides by is a quarter of the count of all."""
    monkeypatch.setattr("msdet.layers.shared_count.GlobalComm.INITED", True)
    monkeypatch.setattr("msdet.layers.shared_count.get_group_size", lambda: 4)
    monkeypatch.setattr("msdet.layers.shared_count.ops.AllReduce", lambda _: lambda count: count + 13)
    for added, minimum, expected in ((0.0, 1.0, 20 / 4), (1.0, 1.0, 21 / 4), (0.0, 50.0, 50 / 4)):
        shared = SharedCount(minimum, added)
        assert float(shared(Tensor(7.0, ms.float32))) == expected


@pytest.mark.parametrize(("count", "expected"), [(0.0, 1.0), (7.0, 8.0)])
def test_what_is_added_to_a_count(uncompiled, count, expected):
    assert float(SharedCount(added=1.0)(Tensor(count, ms.float32))) == expected
