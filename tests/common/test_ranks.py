"""The count of a whole batch: in one process; tests/test_distributed.py has it in two."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, ops

from src.common.ranks import SharedCount


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
