"""Fake quantization: values rounded to the grid of an integer type and kept as float32, so that they can be trained.

Codes are integers 0 .. 2^bits - 1 for activations and -(2^(bits - 1) - 1) .. 2^(bits - 1) - 1 for weights; a value is
scale * (code - zero point). Zero always has a code of its own. The gradient is passed on as if nothing had been
rounded (straight-through estimator: Bengio et al., 2013; Jacob et al., 2018), and is zero where a value was clipped.

MindSpore 2.x has no operator for this that runs on a CPU, so it is written in plain ones, and in those that are fast
there: `relu6` clips ten times as fast as `clip_by_value`, and adding and subtracting 1.5 * 2^23 rounds four times as
fast as `floor` (it is exact, ties to even, for what lies between -2^22 and 2^22: float32 has no room for a fraction
up there). float16 does not reach 1.5 * 2^23: files, which may be computed in it, have the operator that rounds
(`Rounding`).
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

_ROUNDER = 12582912.0  # 1.5 * 2^23
# A value within half a step of the outermost codes is not clipped. (At exactly half it would round to a code too far.)
_MARGIN = 0.499
# Least width of a range, so that a tensor of zeros has a grid.
LEAST_RANGE = 1e-6


class Rounding(nn.Cell):
    """A cell that rounds to whole numbers, ties to even.

    Attributes:
        is_plain: by the operator for it, instead of by a sum that float16 does not hold; the values are the same.
    """

    is_plain = False

    def rounded(self, x: Tensor) -> Tensor:
        """The nearest whole number of each value between -2^22 and 2^22."""
        return ops.round(x) if self.is_plain else (x + _ROUNDER) - _ROUNDER


class SnapToGrid(Rounding):
    """Rounds values to a grid, clipping them to its codes: shape kept, float32.

    The gradient passes where a value lies at most half a step outside the codes, and is zero elsewhere; scale and zero
    point get none.

    Args:
        bits: width of a code; codes are 0 .. 2^bits - 1.
    """

    def __init__(self, bits: int = 8) -> None:
        super().__init__()
        self.stretch = 6 / (2**bits - 1 + 2 * _MARGIN)
        self.relu6 = ops.ReLU6()
        self.relu6_gradient = ops.operations._grad_ops.ReLU6Grad()
        # Of a number over a tensor MindSpore makes a Reciprocal, which it cannot export to ONNX.
        self.div = ops.RealDiv()

    def construct(self, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        """Args: values; scale and zero point of the grid, (1,)."""
        return self.codes(x, scale, zero_point) * scale

    def codes(self, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        """Code minus zero point of each value, as float32."""
        inside = self.relu6(self._placed(x, scale, zero_point)) * (1 / self.stretch) - _MARGIN
        if self.is_plain:
            return self.rounded(inside) - zero_point
        return (inside + _ROUNDER) - (zero_point + _ROUNDER)

    def _placed(self, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        """0 .. 6 for values that are not clipped: what ReLU6 and its gradient look at."""
        return x * self.div(self.stretch, scale) + (zero_point + _MARGIN) * self.stretch

    def passed(self, gradient: Tensor, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        """The gradient where a value was not clipped, else 0."""
        return self.relu6_gradient(gradient, self._placed(x, scale, zero_point))

    def bprop(self, x: Tensor, scale: Tensor, zero_point: Tensor, out: Tensor, dout: Tensor) -> tuple:
        """Straight through; written out so that only x is kept for it."""
        return self.passed(dout, x, scale, zero_point), ops.zeros_like(scale), ops.zeros_like(zero_point)


class SnapLeakyToGrid(SnapToGrid):
    """LeakyReLU between two roundings, as integer arithmetic computes it: the sums of a convolution are rounded, looked
    up in a table, and the table's values lie on a grid again.

    Both grids have the same step. Another one could only add a second error to the positive half, which the first
    rounding leaves on the grid.

    Args:
        slope: of the negative half, 0..1; 0 is ReLU.
        bits: width of a code.
    """

    def __init__(self, slope: float, bits: int = 8) -> None:
        super().__init__(bits)
        self.slope = slope
        self.leaky_relu = nn.LeakyReLU(slope)
        self.relu_gradient = ops.operations._grad_ops.ReluGrad()

    def construct(self, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        # By way of real values and a division, as onnxruntime makes its table: ties fall alike on both sides.
        real = self.leaky_relu(self.codes(x, scale, zero_point) * scale)
        return self.rounded(real / scale) * scale

    def bprop(self, x: Tensor, scale: Tensor, zero_point: Tensor, out: Tensor, dout: Tensor) -> tuple:
        """As of LeakyReLU, and zero where a value was clipped."""
        gradient = self.relu_gradient(dout, out) * (1 - self.slope) + dout * self.slope
        return self.passed(gradient, x, scale, zero_point), ops.zeros_like(scale), ops.zeros_like(zero_point)


class RangeObserver(nn.Cell):
    """Follows the range of a tensor, and tells the grid that covers it.

    In training `low` and `high` are moving averages of the least and the greatest value, and of 0. Only the first
    image of a batch is looked at: the minimum of a whole tensor takes MindSpore on a CPU ten times as long as rounding
    it, and images come in random order.

    Attributes:
        is_calibrating: `low` and `high` add up the mean extremes of the images of each batch instead.

    Args:
        decay: share of the old range that is kept at each step, 0..1.
        symmetric: the range reaches as far below zero as above it, which puts the zero point in the middle.
        bits: width of a code.
    """

    def __init__(self, decay: float, symmetric: bool = False, bits: int = 8) -> None:
        super().__init__()
        self.low = _end("low", -6.0)
        self.high = _end("high", 6.0)
        self.decay = decay
        self.symmetric = symmetric
        self.levels = 2**bits - 1
        self.is_calibrating = False
        self.least, self.greatest = ops.ReduceMin(), ops.ReduceMax()

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x of any shape, batch first -> scale and zero point, (1,)."""
        low, high = self.low * 1, self.high * 1
        if self.is_calibrating:
            rows = ops.reshape(x, (ops.shape(x)[0], -1))
            low = ops.assign(self.low, low + ops.reduce_mean(ops.minimum(self.least(rows, 1), 0)))
            high = ops.assign(self.high, high + ops.reduce_mean(ops.maximum(self.greatest(rows, 1), 0)))
        elif self.training:
            first = ops.reshape(ops.slice(x, (0,) * x.ndim, (1, *ops.shape(x)[1:])), (-1,))
            low = ops.assign(self.low, low * self.decay + ops.minimum(self.least(first), 0) * (1 - self.decay))
            high = ops.assign(self.high, high * self.decay + ops.maximum(self.greatest(first), 0) * (1 - self.decay))
        return self.grid(ops.stop_gradient(low), ops.stop_gradient(high))

    def grid(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and zero point of a range that holds 0."""
        if self.symmetric:
            high = ops.maximum(high, -low)
            low = -high
        scale = ops.maximum(high - low, LEAST_RANGE) / self.levels
        return scale, ops.floor(-low / scale + 0.5)


class FakeQuant(nn.Cell):
    """An observer and a grid: x -> x on the grid of the range observed so far.

    Attributes:
        is_active: False: x goes through unchanged and is only observed.
        marker: None, or least and greatest value of each grid; x is then clipped to them instead of rounded.

    Args:
        decay, symmetric, bits: see `RangeObserver`.
    """

    def __init__(self, decay: float, symmetric: bool = False, bits: int = 8) -> None:
        super().__init__()
        self.observer = RangeObserver(decay, symmetric, bits)
        self.snap = SnapToGrid(bits)
        self.is_active = True
        self.marker: tuple[float, ...] | None = None

    def construct(self, x: Tensor) -> Tensor:
        if self.marker is not None:
            return ops.minimum(ops.maximum(x, self.marker[0]), self.marker[1])
        # Not unpacked: of an item that nothing uses the compiler says that it were a side effect lost "by mistake".
        grid = self.observer(x)
        if self.is_active:
            return self.snap(x, grid[0], grid[1])
        # The range has to be waited for, or the compiler leaves its update out.
        return ops.depend(x, grid[0])

    def grids(self) -> list[tuple[float, int]]:
        """Scale and zero point of each rounding in this cell, in the order of the graph."""
        scale, zero_point = self.observer.grid(self.observer.low * 1, self.observer.high * 1)
        return [(scale.asnumpy().item(), int(zero_point.asnumpy().item()))]

    def mark(self) -> list[tuple[float, int]]:
        """Turns roundings into clips, which an exporter recognises by their limits; gives `grids`."""
        grids = self.grids()
        levels = self.observer.levels
        self.marker = tuple(float(np.float32(end)) for grid in grids for end in grid_ends(*grid, levels))
        return grids


class FakeQuantLeaky(FakeQuant):
    """LeakyReLU between two roundings; see `SnapLeakyToGrid`.

    Args:
        activation: the LeakyReLU, with its `slope`; it is what remains while this is not active.
        decay, symmetric, bits: see `RangeObserver`.
    """

    def __init__(self, activation: nn.Cell, decay: float, symmetric: bool = False, bits: int = 8) -> None:
        super().__init__(decay, symmetric, bits)
        self.snap = SnapLeakyToGrid(activation.slope, bits)
        self.activation = activation

    def construct(self, x: Tensor) -> Tensor:
        if self.marker is not None:
            before = ops.minimum(ops.maximum(x, self.marker[0]), self.marker[1])
            return ops.minimum(ops.maximum(self.activation(before), self.marker[2]), self.marker[3])
        grid = self.observer(x)
        if self.is_active:
            return self.snap(x, grid[0], grid[1])
        return ops.depend(self.activation(x), grid[0])

    def grids(self) -> list[tuple[float, int]]:
        scale, zero_point = super().grids()[0]
        after = np.rint(np.float32(self.activation.slope) * np.float32(zero_point))
        return [(scale, zero_point), (scale, int(after))]


class WeightQuant(Rounding):
    """A kernel (O, I, h, w) -> the same on its grid; the gradient passes unchanged, since nothing is clipped.

    A symmetric grid reaches from -max |w| to max |w|, so that a negative factor can mirror it; an asymmetric one from
    the least to the greatest value.

    Args:
        per_channel: a grid for each output channel; False: one for all.
        symmetric: see above.
        bits: width of a code.
    """

    def __init__(self, per_channel: bool = True, symmetric: bool = True, bits: int = 8) -> None:
        super().__init__()
        self.per_channel = per_channel
        self.symmetric = symmetric
        self.levels = 2 ** (bits - 1) - 1 if symmetric else 2**bits - 1
        self.least, self.greatest = ops.ReduceMin(), ops.ReduceMax()

    def construct(self, weight: Tensor) -> Tensor:
        codes, scale, zero_point = self.codes(weight)
        return (codes - zero_point) * scale

    def bprop(self, weight: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """Straight through."""
        return (dout,)

    def codes(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes (O, I, h, w) as float32; scale and zero point, of a shape that broadcasts with them."""
        rows = ops.reshape(weight, (weight.shape[0] if self.per_channel else 1, -1))
        shape = (-1, 1, 1, 1)
        if self.symmetric:
            greatest = ops.reshape(self.greatest(ops.abs(rows), 1), shape)
            scale = ops.maximum(greatest, LEAST_RANGE / 2) / self.levels
            return self.rounded(weight / scale), scale, ops.zeros_like(scale)
        low = ops.reshape(ops.minimum(self.least(rows, 1), 0), shape)
        high = ops.reshape(ops.maximum(self.greatest(rows, 1), 0), shape)
        scale = ops.maximum(high - low, LEAST_RANGE) / self.levels
        zero_point = ops.floor(-low / scale + 0.5)
        return self.rounded(weight / scale) + zero_point, scale, zero_point


def _end(name: str, value: float) -> Parameter:
    # Of shape (1,): MindSpore saves scalars as such.
    return Parameter(Tensor([value], ms.float32), name=name, requires_grad=False)


def grid_ends(scale: float, zero_point: int, levels: int = 255) -> tuple[float, float]:
    """Least and greatest value of a grid of levels + 1 codes."""
    return scale * (0 - zero_point), scale * (levels - zero_point)
