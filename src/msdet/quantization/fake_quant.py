"""Fake quantization: values are rounded to the grid of an integer type and kept as float32, so that they are trainable.

Codes are integers 0 .. 2^bits - 1 for activations and -(2^(bits - 1) - 1) .. 2^(bits - 1) - 1 for weights; a value is
scale * (code - zero point). Zero is always on the grid. The gradient passes unchanged (straight-through estimator:
Bengio et al., 2013; Jacob et al., 2018), except where a value was clipped: there it is zero.

MindSpore 2.x has no fake quantization operator for CPU, so it is built of basic operators, chosen for their speed on
CPU: `relu6` clips ten times as fast as `clip_by_value`, and adding and subtracting 1.5 * 2^23 rounds four times as fast
as `floor` (exact, ties to even, between -2^22 and 2^22: float32 has no fraction bits at that magnitude). 1.5 * 2^23 is
beyond float16, so exported files, which may run in float16, use the round operator (see `RoundingCell`).
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

_ROUNDER = 12582912.0  # 1.5 * 2^23
# A value less than half a step beyond the outermost codes is not clipped. (At exactly half it could round one too far.)
_MARGIN = 0.499
# Minimum width of a range, so that a tensor of zeros has a grid.
MIN_RANGE = 1e-6


class RoundingCell(nn.Cell):
    """A cell that rounds to integers, ties to even.

    Attributes:
        uses_round: rounds by `ops.round`, which also works in float16, instead of by the faster sum; same values.
    """

    uses_round = False

    def rounded(self, x: Tensor) -> Tensor:
        """Rounds values between -2^22 and 2^22 to the nearest integer."""
        return ops.round(x) if self.uses_round else (x + _ROUNDER) - _ROUNDER


class SnapToGrid(RoundingCell):
    """Rounds values to a grid and clips them to its range: shape kept, float32.

    The gradient passes where a value lies at most half a step outside the range and is zero elsewhere; scale and zero
    point have none.

    Args:
        bits: bits of a code; codes are 0 .. 2^bits - 1.
    """

    def __init__(self, bits: int = 8) -> None:
        super().__init__()
        self.stretch = 6 / (2**bits - 1 + 2 * _MARGIN)
        self.relu6 = ops.ReLU6()
        self.relu6_gradient = ops.operations._grad_ops.ReLU6Grad()
        # MindSpore turns a number divided by a tensor into a Reciprocal, which it cannot export to ONNX.
        self.div = ops.RealDiv()

    def construct(self, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        """Args: x: values; scale, zero_point: of the grid, each (1,)."""
        return self.codes(x, scale, zero_point) * scale

    def codes(self, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        """Code minus zero point of each value, in float32."""
        inside = self.relu6(self._placed(x, scale, zero_point)) * (1 / self.stretch) - _MARGIN
        if self.uses_round:
            return self.rounded(inside) - zero_point
        return (inside + _ROUNDER) - (zero_point + _ROUNDER)

    def _placed(self, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        """Maps the range of the grid to 0 .. 6, so that ReLU6 clips and its gradient is that of clipping."""
        return x * self.div(self.stretch, scale) + (zero_point + _MARGIN) * self.stretch

    def passed(self, gradient: Tensor, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        """The gradient where the value was not clipped, else 0."""
        return self.relu6_gradient(gradient, self._placed(x, scale, zero_point))

    def bprop(self, x: Tensor, scale: Tensor, zero_point: Tensor, out: Tensor, dout: Tensor) -> tuple:
        """Straight-through estimator; written out so that only x is stored for it."""
        return self.passed(dout, x, scale, zero_point), ops.zeros_like(scale), ops.zeros_like(zero_point)


class SnapLeakyToGrid(SnapToGrid):
    """LeakyReLU with rounding before and after it, as int8 runtimes compute it by a lookup table.

    Input and output grid have the same scale: positive values are on the grid after the first rounding, and another
    scale would only add a second error to them.

    Args:
        slope: of the negative half, 0..1; 0 is ReLU.
        bits: bits of a code.
    """

    def __init__(self, slope: float, bits: int = 8) -> None:
        super().__init__(bits)
        self.slope = slope
        self.leaky_relu = nn.LeakyReLU(slope)
        self.relu_gradient = ops.operations._grad_ops.ReluGrad()

    def construct(self, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        # In real values and with a division, as onnxruntime computes its table, so that ties are rounded alike.
        real = self.leaky_relu(self.codes(x, scale, zero_point) * scale)
        return self.rounded(real / scale) * scale

    def bprop(self, x: Tensor, scale: Tensor, zero_point: Tensor, out: Tensor, dout: Tensor) -> tuple:
        """The gradient of LeakyReLU, zero where the value was clipped."""
        gradient = self.relu_gradient(dout, out) * (1 - self.slope) + dout * self.slope
        return self.passed(gradient, x, scale, zero_point), ops.zeros_like(scale), ops.zeros_like(zero_point)


class RangeObserver(nn.Cell):
    """Observes the range of a tensor and returns the grid that covers it.

    In training `low` and `high` are moving averages of the minimum and the maximum; the range always includes 0. Only
    the first image of a batch is observed: on CPU, MindSpore's minimum of a whole tensor takes ten times as long as
    rounding it, and images come in random order.

    Attributes:
        is_calibrating: accumulate in `low` and `high` the mean minimum and maximum over the images of each batch.

    Args:
        decay: share of the old range that each step keeps, 0..1.
        symmetric: make the range symmetric around zero.
        bits: bits of a code.
    """

    def __init__(self, decay: float, symmetric: bool = False, bits: int = 8) -> None:
        super().__init__()
        self.low = _range_parameter("low", -6.0)
        self.high = _range_parameter("high", 6.0)
        self.decay = decay
        self.symmetric = symmetric
        self.levels = 2**bits - 1
        self.is_calibrating = False
        self.reduce_min, self.reduce_max = ops.ReduceMin(), ops.ReduceMax()

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x of any shape, batch first -> scale and zero point, each (1,)."""
        low, high = self.low * 1, self.high * 1
        if self.is_calibrating:
            rows = ops.reshape(x, (ops.shape(x)[0], -1))
            low = ops.assign(self.low, low + ops.reduce_mean(ops.minimum(self.reduce_min(rows, 1), 0)))
            high = ops.assign(self.high, high + ops.reduce_mean(ops.maximum(self.reduce_max(rows, 1), 0)))
        elif self.training:
            first = ops.reshape(ops.slice(x, (0,) * x.ndim, (1, *ops.shape(x)[1:])), (-1,))
            low = ops.assign(self.low, low * self.decay + ops.minimum(self.reduce_min(first), 0) * (1 - self.decay))
            high = ops.assign(self.high, high * self.decay + ops.maximum(self.reduce_max(first), 0) * (1 - self.decay))
        return self.grid(ops.stop_gradient(low), ops.stop_gradient(high))

    def grid(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and zero point for a range that includes 0."""
        if self.symmetric:
            high = ops.maximum(high, -low)
            low = -high
        scale = ops.maximum(high - low, MIN_RANGE) / self.levels
        return scale, ops.floor(-low / scale + 0.5)


class FakeQuant(nn.Cell):
    """Observes the range of a tensor and rounds it to the grid of the range observed so far.

    Attributes:
        is_active: False: x passes unchanged and is only observed.
        marker: None, or minimum and maximum of each grid; x is then clipped to these instead of rounded.

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
        # Not unpacked: for an unused item the compiler warns of a side effect that is lost "by mistake".
        grid = self.observer(x)
        if self.is_active:
            return self.snap(x, grid[0], grid[1])
        # Without this dependency the compiler removes the update of the range.
        return ops.depend(x, grid[0])

    def grids(self) -> list[tuple[float, int]]:
        """Scale and zero point of each fake quantization in this cell, in the order of the graph."""
        scale, zero_point = self.observer.grid(self.observer.low * 1, self.observer.high * 1)
        return [(scale.asnumpy().item(), int(zero_point.asnumpy().item()))]

    def mark(self) -> list[tuple[float, int]]:
        """Replaces rounding by clipping, so that an exporter finds each grid by its limits; returns `grids`."""
        grids = self.grids()
        levels = self.observer.levels
        self.marker = tuple(float(np.float32(limit)) for grid in grids for limit in grid_limits(*grid, levels))
        return grids


class FakeQuantLeaky(FakeQuant):
    """LeakyReLU with fake quantization before and after it; see `SnapLeakyToGrid`.

    Args:
        activation: the LeakyReLU, with its `slope`; it is applied alone while this is not active.
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


class WeightQuant(RoundingCell):
    """Rounds a kernel (O, I, h, w) to its grid; the gradient passes unchanged, since nothing is clipped.

    A symmetric grid covers -max |w| to max |w|, so that a negative factor only mirrors it; an asymmetric one covers the
    minimum to the maximum.

    Args:
        per_channel: one grid per output channel; False: one for the whole kernel.
        symmetric: see above.
        bits: bits of a code.
    """

    def __init__(self, per_channel: bool = True, symmetric: bool = True, bits: int = 8) -> None:
        super().__init__()
        self.per_channel = per_channel
        self.symmetric = symmetric
        self.levels = 2 ** (bits - 1) - 1 if symmetric else 2**bits - 1
        self.reduce_min, self.reduce_max = ops.ReduceMin(), ops.ReduceMax()

    def construct(self, weight: Tensor) -> Tensor:
        codes, scale, zero_point = self.codes(weight)
        return (codes - zero_point) * scale

    def bprop(self, weight: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """Straight-through estimator."""
        return (dout,)

    def codes(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes (O, I, h, w) in float32; scale and zero point, in shapes that broadcast with them."""
        rows = ops.reshape(weight, (weight.shape[0] if self.per_channel else 1, -1))
        shape = (-1, 1, 1, 1)
        if self.symmetric:
            magnitude = ops.reshape(self.reduce_max(ops.abs(rows), 1), shape)
            scale = ops.maximum(magnitude, MIN_RANGE / 2) / self.levels
            return self.rounded(weight / scale), scale, ops.zeros_like(scale)
        low = ops.reshape(ops.minimum(self.reduce_min(rows, 1), 0), shape)
        high = ops.reshape(ops.maximum(self.reduce_max(rows, 1), 0), shape)
        scale = ops.maximum(high - low, MIN_RANGE) / self.levels
        zero_point = ops.floor(-low / scale + 0.5)
        return self.rounded(weight / scale) + zero_point, scale, zero_point


def _range_parameter(name: str, value: float) -> Parameter:
    # Of shape (1,): MindSpore saves scalars in this shape too.
    return Parameter(Tensor([value], ms.float32), name=name, requires_grad=False)


def grid_limits(scale: float, zero_point: int, levels: int = 255) -> tuple[float, float]:
    """Minimum and maximum of a grid of levels + 1 codes."""
    return scale * (0 - zero_point), scale * (levels - zero_point)
