"""Layers that the convolutional networks share, in forms that train on CPU, run in graph mode and export."""

from __future__ import annotations

import math
from typing import TypedDict

import mindspore as ms
from mindspore import nn, ops
from mindspore.common.initializer import Initializer, Uniform, initializer
from mindspore.ops import functional


class Float32Cell(nn.Cell):
    """A cell that computes in float32 whatever the precision of the network around it; its outputs are float32.

    For what overflows (65,504) or loses digits in half precision: squares, sums, exponentials. A cast in `construct`
    does not do: in PyNative mode every operator of a cell that is set to float16 has its inputs cast back.
    """

    def add_flags(self, **flags: object) -> nn.Cell:
        """Takes a request for half precision, which mixed precision makes of every cell, for one of float32."""
        if flags.get("fp16") or flags.get("bf16"):
            flags = {**flags, "fp16": False, "bf16": False, "fp32": True}
        return super().add_flags(**flags)


def widened(maps: tuple) -> tuple:
    """Tensors of half precision as float32, others as they are."""
    return tuple([ops.cast(x, ms.float32) if x.dtype in (ms.float16, ms.bfloat16) else x for x in maps])


class SpatialMean(Float32Cell):
    """Mean of every channel over the pixels, in float32: (N, C, H, W) -> (N, C, 1, 1), or (N, C).

    Args:
        keep_dims: whether the two axes of length 1 stay.
    """

    suits_cpu = True

    def __init__(self, keep_dims: bool = True) -> None:
        super().__init__()
        self.keep_dims = keep_dims
        self.mean = ops.ReduceMean(keep_dims=keep_dims)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        if not (self.training and self.suits_cpu):
            return self.mean(x, (2, 3))
        # On CPU a mean over the last axis alone is the faster one (measured in MindSpore 2.10).
        n, c, h, w = x.shape
        means = ops.mean(ops.reshape(x, (n, c, h * w)), 2)
        return ops.reshape(means, (n, c, 1, 1)) if self.keep_dims else means


class LeakyReLU(nn.Cell):
    """max(x, slope * x), shape kept.

    In training it is computed as (1 - slope) * relu(x) + slope * x: the same function, with a cheaper gradient on CPU;
    in inference, and on other devices, the library's operator is the faster one.
    """

    suits_cpu = True

    def __init__(self, slope: float = 0.1) -> None:
        super().__init__()
        self.slope = slope
        self.relu = nn.ReLU()
        self.leaky_relu = nn.LeakyReLU(slope)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        if self.training and self.suits_cpu:
            return (1 - self.slope) * self.relu(x) + self.slope * x
        return self.leaky_relu(x)


class Mish(nn.Cell):
    """x * tanh(softplus(x)), shape kept (Misra, 2019).

    On CPU, and wherever a network is exported, it is `MishByExp`: the library's own operator has on CPU a tanh that is
    1e-4 off, which a deep network magnifies, and a gradient that is NaN from 44 on.
    """

    suits_cpu = True

    def __init__(self) -> None:
        super().__init__()
        self.by_exp = MishByExp()
        self.library = ops.Mish()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        if self.training and not self.suits_cpu:
            return self.library(x)
        return self.by_exp(x)


class MishByExp(nn.Cell):
    """Mish as x / (1 + 2 / n) with n = e^x (e^x + 2), shape kept: the same function, of operators that every exporter
    knows. The gradient is written out so that only x is kept for it.

    Where n overflows, in float16 from 6 on, 2 / n is 0 and Mish is x, as it should be: no limit is needed.
    """

    def __init__(self) -> None:
        super().__init__()
        # Of `2 / n` MindSpore makes a Reciprocal, which it cannot export to ONNX.
        self.div = ops.RealDiv()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        power = ops.exp(x)
        return x / (1 + self.div(2.0, power * (power + 2)))

    def bprop(self, x: ms.Tensor, out: ms.Tensor, dout: ms.Tensor) -> tuple[ms.Tensor]:
        """d(out)/dx = s + x * ds/dx with s = n / (n + 2)."""
        # A limit above which Mish is x, and below which nothing here overflows.
        capped = ops.minimum(x, 5 if x.dtype == ms.float16 else 20)
        power = ops.exp(capped)
        below = power * (power + 2) + 2
        slope = (4 * power / below) * ((power + 1) / below)
        return (dout * (1 - 2 / below + capped * slope),)


class MishByTanh(nn.Cell):
    """Mish computed as the old model zoo did: with MindSpore's tanh, which on CPU is 1e-4 off.

    For its weights, so that a deep network, which magnifies the difference, gives the maps it gave there.
    """

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        # softplus without overflow: log1p(exp(-|x|)) + max(x, 0)
        softplus = ops.log1p(ops.exp(-ops.abs(x))) + ops.relu(x)
        return x * ops.tanh(softplus)


ACTIVATIONS = {"leaky": LeakyReLU, "relu": nn.ReLU, "mish": Mish, "mish_tanh": MishByTanh}


class NormOptions(TypedDict, total=False):
    """What a network hands on to all its batch norms."""

    bn_momentum: float
    bn_eps: float


class ConvOptions(NormOptions, total=False):
    """What a network hands on to all its `ConvBnAct`."""

    padding: str


class ActivatedOptions(ConvOptions, total=False):
    """As `ConvOptions`, with the activation."""

    activation: str


class ConvBnAct(nn.Cell):
    """Convolution without bias, batch norm, activation: (N, C, H, W) -> (N, out_channels, H / stride, W / stride).

    Args:
        in_channels, out_channels, kernel_size, stride: of the convolution; the kernel is odd.
        activation: a key of `ACTIVATIONS`.
        padding: "symmetric" pads (kernel - 1) / 2 on every side, as darknet and PyTorch do; "same" pads as MindSpore's
            and TensorFlow's "same" mode do, which at stride 2 and an even size puts the odd pixel to the right and
            below.
        bn_momentum: in MindSpore's sense: moving = momentum * moving + (1 - momentum) * batch.
        bn_eps: added to the variance.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        activation: str = "leaky",
        padding: str = "symmetric",
        bn_momentum: float = 0.9,
        bn_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        pad = {"pad_mode": "pad", "padding": (kernel_size - 1) // 2} if padding == "symmetric" else {"pad_mode": "same"}
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, has_bias=False, **pad)
        fan_in_uniform(self.conv)
        self.bn = nn.BatchNorm2d(out_channels, eps=bn_eps, momentum=bn_momentum)
        self.activation = ACTIVATIONS[activation]()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.activation(self.bn(self.conv(x)))


class Add(nn.Cell):
    """Sum of two maps of one shape: a cell, so that `quantize` finds it."""

    def construct(self, first: ms.Tensor, second: ms.Tensor) -> ms.Tensor:
        return first + second


class Concat(nn.Cell):
    """Two maps (N, C, H, W) one behind the other along the channels: a cell, so that `quantize` finds it."""

    def construct(self, first: ms.Tensor, second: ms.Tensor) -> ms.Tensor:
        return ops.concat((first, second), 1)


class UpsampleNearest2x(nn.Cell):
    """Repeats every pixel twice along both axes: (N, C, H, W) -> (N, C, 2H, 2W).

    Built of concatenations and reshapes, because the resize operators either take a fixed size, which would compile
    the network anew for each input size, or have no ONNX form.
    """

    suits_cpu = True

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        n, c, h, w = ops.shape(x)
        # Of a size that is known when the graph is compiled.
        if self.training and not self.suits_cpu and functional.isconstant(h):
            return ops.interpolate(x, size=(2 * h, 2 * w), mode="nearest")
        column = ops.reshape(x, (n, c, h * w, 1))
        wide = ops.reshape(ops.concat((column, column), 3), (n, c, h, 2 * w))
        return ops.reshape(ops.concat((wide, wide), 3), (n, c, 2 * h, 2 * w))


def fan_in_uniform(conv: nn.Conv2d) -> None:
    """Draws weight and bias from U(-b, b), b = 1 / sqrt(fan in): the initialisation of the published YOLO trainings."""
    _, channels, height, width = conv.weight.shape
    bound = 1 / math.sqrt(channels * height * width)
    draw(conv, Uniform(bound), Uniform(bound))


def draw(conv: nn.Conv2d, weight: Initializer, bias: Initializer | str = "zeros") -> None:
    """Sets the weight of a convolution and then, if it has one, its bias."""
    conv.weight.set_data(initializer(weight, conv.weight.shape, conv.weight.dtype))
    if conv.has_bias:
        conv.bias.set_data(initializer(bias, conv.bias.shape, conv.bias.dtype))
