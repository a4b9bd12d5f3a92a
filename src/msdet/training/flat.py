"""Many tensors as one flat vector, in the graph and on the host.

A step that handles hundreds of tensors one by one spends more time launching small operators than computing.
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
    # A superfluous reshape costs a launch.
    return tensor if tensor.ndim == 1 else _reshape(tensor, (-1,))


@_cut.register("Tensor", "Tensor", "Tuple", "Tuple", "Tuple")
def _cut_one(vector: Tensor, like: Tensor, start: tuple, size: tuple, shape: tuple) -> Tensor:
    # `like` only makes HyperMap iterate over tensors: with a tuple first it would descend into the tuple.
    part = _slice(vector, start, size)
    return _reshape(part, shape) if len(shape) != 1 else part


@_shape.register("Tensor", "Tuple")
def _shape_one(part: Tensor, shape: tuple) -> Tensor:
    return _reshape(part, shape) if len(shape) != 1 else part


def concat_flat(tensors: tuple) -> Tensor:
    """Concatenates tensors of one type, flattened, to a vector (K,)."""
    return ops.concat(_map(_flatten, tensors))


class SplitVector(nn.Cell):
    """Splits a vector (K,) into a tuple of tensors: the inverse of `concat_flat`.

    Args:
        tensors: tensors of the same shapes.
        in_one_op: split by a single operator, which is faster where launches are expensive; else by one slice per
            tensor, which takes half the time on a CPU.
    """

    def __init__(self, tensors: Sequence[Tensor], in_one_op: bool) -> None:
        super().__init__(auto_prefix=False)
        starts, sizes, self.shapes = _layout(tensors)
        self.lengths = sizes
        self.starts, self.sizes = tuple((start,) for start in starts), tuple((size,) for size in sizes)
        self.split = SplitWithSize() if in_one_op else None

    def construct(self, vector: Tensor, like: tuple) -> tuple:
        """Args: the vector; tensors of the shapes in question, in their order."""
        if self.split is not None:
            return _map(_shape, self.split(vector, self.lengths, 0), self.shapes)
        return _map(ops.partial(_cut, vector), like, self.starts, self.sizes, self.shapes)


def _layout(tensors: Sequence[Tensor]) -> tuple[tuple, tuple, tuple]:
    """Start, size and shape of each tensor in the concatenated vector."""
    sizes = tuple(int(tensor.size) for tensor in tensors)
    ends = np.cumsum(sizes).tolist()
    starts = tuple(end - size for end, size in zip(ends, sizes, strict=True))
    return starts, sizes, tuple(tuple(tensor.shape) for tensor in tensors)


def split_by_name(vector: Parameter, parameters: Sequence[Parameter]) -> dict[str, np.ndarray]:
    """Copies of the parts of a vector by the names of the parameters they belong to."""
    values = vector.asnumpy()
    return {
        p.name: values[start : start + size].reshape(shape).copy()
        for p, start, size, shape in zip(parameters, *_layout(parameters), strict=True)
    }


def fill_vector(vector: Parameter, values: Mapping[str, np.ndarray], parameters: Sequence[Parameter]) -> None:
    """Fills a vector from values by the names of the parameters.

    Raises:
        KeyError: a value is missing.
        ValueError: a shape differs.
    """
    for p in parameters:
        if np.shape(values[p.name]) != tuple(p.shape):
            raise ValueError(f"{p.name}: shape {np.shape(values[p.name])}, not {tuple(p.shape)}")
    flat = [np.asarray(values[p.name], np.float32).ravel() for p in parameters]
    vector.set_data(Tensor(np.concatenate(flat)))


def vector_parameter(name: str, size: int) -> Parameter:
    """A float32 parameter (size,) of zeros without gradient."""
    return Parameter(Tensor(np.zeros(size, np.float32)), name=name, requires_grad=False)


def scalar_parameter(name: str, value: float) -> Parameter:
    """A float32 scalar parameter without gradient."""
    return Parameter(Tensor(value, ms.float32), name=name, requires_grad=False)
