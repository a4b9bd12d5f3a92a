"""Many tensors as one long vector, in the graph and on the host.

A step that handles hundreds of tensors one by one spends more time on starting small operators than on what they
compute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.ops.auto_generate import SplitWithSize

_map = ops.HyperMap()
_reshape = ops.Reshape()
_slice = ops.Slice()

_flatten = ops.MultitypeFuncGraph("flatten")
_cut = ops.MultitypeFuncGraph("cut")
_shape = ops.MultitypeFuncGraph("shape")


@_flatten.register("Tensor")
def _flatten_one(tensor: Tensor) -> Tensor:
    # A small operator costs a narrow network more than what it computes.
    return tensor if tensor.ndim == 1 else _reshape(tensor, (-1,))


@_cut.register("Tensor", "Tensor", "Tuple", "Tuple", "Tuple")
def _cut_one(vector: Tensor, like: Tensor, start: tuple, size: tuple, shape: tuple) -> Tensor:
    # `like` is there for the map alone, which would go into tuples that come first.
    part = _slice(vector, start, size)
    return _reshape(part, shape) if len(shape) != 1 else part


@_shape.register("Tensor", "Tuple")
def _shape_one(part: Tensor, shape: tuple) -> Tensor:
    return _reshape(part, shape) if len(shape) != 1 else part


def joined(tensors: tuple) -> Tensor:
    """Tensors of one type, one behind the other: (K,)."""
    return ops.concat(_map(_flatten, tensors))


class Parts(nn.Cell):
    """A vector (K,) -> the tensors that it was joined of, as a tuple.

    Args:
        tensors: of the same shapes.
        at_once: by one operator, where starting an operator is what costs; else by one each, which on CPU takes half
            the time.
    """

    def __init__(self, tensors: Sequence[Tensor], at_once: bool) -> None:
        super().__init__(auto_prefix=False)
        starts, sizes, self.shapes = _layout(tensors)
        self.lengths = sizes
        self.starts, self.sizes = tuple((start,) for start in starts), tuple((size,) for size in sizes)
        self.split = SplitWithSize() if at_once else None

    def construct(self, vector: Tensor, like: tuple) -> tuple:
        """`like`: tensors of these shapes, in this order."""
        if self.split is not None:
            return _map(_shape, self.split(vector, self.lengths, 0), self.shapes)
        return _map(ops.partial(_cut, vector), like, self.starts, self.sizes, self.shapes)


def _layout(tensors: Sequence[Tensor]) -> tuple[tuple, tuple, tuple]:
    """Start, size and shape of every tensor in the vector that holds them one after the other."""
    sizes = tuple(int(tensor.size) for tensor in tensors)
    ends = np.cumsum(sizes).tolist()
    starts = tuple(end - size for end, size in zip(ends, sizes, strict=True))
    return starts, sizes, tuple(tuple(tensor.shape) for tensor in tensors)


def parts_by_name(vector: Parameter, parameters: Sequence[Parameter]) -> dict[str, np.ndarray]:
    """What the vector holds for each of these parameters, copied."""
    values = vector.asnumpy()
    return {
        p.name: values[start : start + size].reshape(shape).copy()
        for p, start, size, shape in zip(parameters, *_layout(parameters), strict=True)
    }


def fill_vector(vector: Parameter, values: Mapping[str, np.ndarray], parameters: Sequence[Parameter]) -> None:
    """Sets a vector from the values for each of these parameters.

    Raises:
        KeyError: one is missing. ValueError: a shape differs.
    """
    for p in parameters:
        if np.shape(values[p.name]) != tuple(p.shape):
            raise ValueError(f"{p.name}: shape {np.shape(values[p.name])}, not {tuple(p.shape)}")
    flat = [np.asarray(values[p.name], np.float32).ravel() for p in parameters]
    vector.set_data(Tensor(np.concatenate(flat)))


def vector_of(name: str, size: int) -> Parameter:
    """Zeros, float32 (size,), that no gradient moves."""
    return Parameter(Tensor(np.zeros(size, np.float32)), name=name, requires_grad=False)


def scalar_of(name: str, value: float) -> Parameter:
    """A float32 scalar that no gradient moves."""
    return Parameter(Tensor(value, ms.float32), name=name, requires_grad=False)
