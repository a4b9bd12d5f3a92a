"""Tensors as one vector and back, in the graph and on the host."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

from msdet.training.flat import SplitVector, concat_flat, fill_vector, split_by_name, vector_parameter

SHAPES = {"matrix": (2, 3), "vector": (4,), "kernel": (2, 1, 2, 2), "one": (1,)}
ARRAYS = {name: np.random.default_rng(0).standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
FLAT = np.concatenate([array.ravel() for array in ARRAYS.values()])


def parameters():
    return [Parameter(Tensor(array), name=name) for name, array in ARRAYS.items()]


class RoundTrip(nn.Cell):
    def __init__(self, in_one_op):
        super().__init__(auto_prefix=False)
        self.tensors = ms.ParameterTuple(parameters())
        self.split = SplitVector(self.tensors, in_one_op)

    def construct(self):
        vector = concat_flat(self.tensors)
        return vector, self.split(vector * 2, self.tensors)


@pytest.mark.parametrize("in_one_op", [False, True], ids=["slices", "split"])
@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
def test_tensors_are_concatenated_and_split_again(mode, in_one_op):
    ms.set_context(mode=mode)
    vector, parts = RoundTrip(in_one_op)()
    ms.set_context(mode=ms.GRAPH_MODE)
    np.testing.assert_array_equal(vector.asnumpy(), FLAT)
    for part, array in zip(parts, ARRAYS.values(), strict=True):
        np.testing.assert_array_equal(part.asnumpy(), 2 * array)


def test_a_vector_is_filled_and_read_by_name():
    vector = vector_parameter("v", len(FLAT))
    assert not vector.requires_grad and not vector.asnumpy().any()
    fill_vector(vector, dict(reversed(ARRAYS.items())), parameters())
    np.testing.assert_array_equal(vector.asnumpy(), FLAT)
    parts = split_by_name(vector, parameters())
    assert parts.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(parts[name], array)
    parts["vector"][:] = 0
    np.testing.assert_array_equal(vector.asnumpy(), FLAT, err_msg="the parts are copies")


def test_missing_values_and_other_shapes_are_refused():
    vector = vector_parameter("v", len(FLAT))
    with pytest.raises(KeyError):
        fill_vector(vector, {"matrix": ARRAYS["matrix"]}, parameters())
    with pytest.raises(ValueError, match=r"matrix: shape \(3, 2\), not \(2, 3\)"):
        fill_vector(vector, {**ARRAYS, "matrix": ARRAYS["matrix"].T}, parameters())
