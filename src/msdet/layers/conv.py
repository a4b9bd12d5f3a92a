"""Layers shared by the convolutional networks; all of them train on CPU, run in graph mode and export."""

from __future__ import annotations

import math
from typing import TypedDict

import mindspore as ms
from mindspore import nn, ops
from mindspore.common.initializer import Initializer, Uniform, initializer
from mindspore.ops import functional


class Float32Cell(nn.Cell):
    """A cell that computes in float32 and returns float32, whatever the precision of the surrounding network.

    For squares, sums and exponentials, which overflow (65,504) or lose digits in half precision. A cast in `construct`
    is not enough: in PyNative mode, the inputs of every operator of a cell set to float16 are cast back.
    """

    def add_flags(self, **flags: object) -> nn.Cell:
        """Sets float32 where mixed precision requests half precision."""
        if flags.get("fp16") or flags.get("bf16"):
            flags = {**flags, "fp16": False, "bf16": False, "fp32": True}
        return super().add_flags(**flags)


def to_float32(maps: tuple) -> tuple:
    """Casts tensors of half precision to float32 and leaves others unchanged."""
    return tuple([ops.cast(x, ms.float32) if x.dtype in (ms.float16, ms.bfloat16) else x for x in maps])


class SpatialMean(Float32Cell):
    """Mean of every channel over the pixels, in float32: (N, C, H, W) -> (N, C, 1, 1), or (N, C).

    Args:
        keep_dims: whether to keep the two axes of length 1.
    """

    cpu_optimized = True

    def __init__(self, keep_dims: bool = True) -> None:
        super().__init__()
        self.keep_dims = keep_dims
        self.mean = ops.ReduceMean(keep_dims=keep_dims)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        if not (self.training and self.cpu_optimized):
            return self.mean(x, (2, 3))
        # On CPU, a mean over the last axis alone is faster (measured in MindSpore 2.10).
        n, c, h, w = x.shape
        means = ops.mean(ops.reshape(x, (n, c, h * w)), 2)
        return ops.reshape(means, (n, c, 1, 1)) if self.keep_dims else means


class LeakyReLU(nn.Cell):
    """max(x, slope * x), shape kept.

    In training on CPU it is computed as (1 - slope) * relu(x) + slope * x: the same function with a cheaper gradient.
    In inference, and on other devices, the library's operator is faster.
    """

    cpu_optimized = True

    def __init__(self, slope: float = 0.1) -> None:
        super().__init__()
        self.slope = slope
        self.relu = nn.ReLU()
        self.leaky_relu = nn.LeakyReLU(slope)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        if self.training and self.cpu_optimized:
            return (1 - self.slope) * self.relu(x) + self.slope * x
        return self.leaky_relu(x)


class Mish(nn.Cell):
    """x * tanh(softplus(x)), shape kept (Misra, 2019).

    On CPU, in inference and in exported files it is `MishByExp`: on CPU the library's operator has an error of 1e-4 in
    its tanh, which a deep network amplifies, and a gradient that is NaN from 44 on.
    """

    cpu_optimized = True

    def __init__(self) -> None:
        super().__init__()
        self.by_exp = MishByExp()
        self.library = ops.Mish()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        if self.training and not self.cpu_optimized:
            return self.library(x)
        return self.by_exp(x)


class MishByExp(nn.Cell):
    """Mish as x / (1 + 2 / n) with n = e^x (e^x + 2), shape kept.

    The same function, built of operators that every exporter supports. The gradient is written out so that only x is
    stored for it. Where n overflows, in float16 from 6 on, 2 / n is 0 and the result is x, which is correct.
    """

    def __init__(self) -> None:
        super().__init__()
        # MindSpore turns `2 / n` into a Reciprocal, which it cannot export to ONNX.
        self.div = ops.RealDiv()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        power = ops.exp(x)
        return x / (1 + self.div(2.0, power * (power + 2)))

    def bprop(self, x: ms.Tensor, out: ms.Tensor, dout: ms.Tensor) -> tuple[ms.Tensor]:
        """d(out)/dx = s + x * ds/dx with s = n / (n + 2)."""
        # Above this limit Mish equals x; below it nothing here overflows.
        capped = ops.minimum(x, 5 if x.dtype == ms.float16 else 20)
        power = ops.exp(capped)
        below = power * (power + 2) + 2
        slope = (4 * power / below) * ((power + 1) / below)
        return (dout * (1 - 2 / below + capped * slope),)


class MishByTanh(nn.Cell):
    """Mish as the old model zoo computed it: with MindSpore's tanh, which has an error of 1e-4 on CPU.

    For the zoo's weights: a deep network amplifies the difference, and its maps should equal those of the zoo.
    """

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        # softplus without overflow: log1p(exp(-|x|)) + max(x, 0)
        softplus = ops.log1p(ops.exp(-ops.abs(x))) + ops.relu(x)
        return x * ops.tanh(softplus)


ACTIVATIONS = {"leaky": LeakyReLU, "relu": nn.ReLU, "mish": Mish, "mish_tanh": MishByTanh}


class NormOptions(TypedDict, total=False):
    """Arguments that a network passes to all its batch norms."""

    bn_momentum: float
    bn_eps: float


class ConvOptions(NormOptions, total=False):
    """Arguments that a network passes to all its `ConvBnAct`."""

    padding: str


class ConvActOptions(ConvOptions, total=False):
    """`ConvOptions` and the activation."""

    activation: str


class ConvBnAct(nn.Cell):
    """Convolution without bias, batch norm, activation: (N, C, H, W) -> (N, out_channels, H / stride, W / stride).

    Args:
        in_channels, out_channels, kernel_size, stride: of the convolution; the kernel is odd.
        activation: a key of `ACTIVATIONS`.
        padding: "symmetric" pads (kernel - 1) / 2 on every side, as darknet and PyTorch do; "same" pads as the "same"
            mode of MindSpore and TensorFlow, which at stride 2 and an even size adds the odd pixel at the right and at
            the bottom.
        bn_momentum: as defined by MindSpore: moving = momentum * moving + (1 - momentum) * batch.
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
        init_uniform_fan_in(self.conv)
        self.bn = nn.BatchNorm2d(out_channels, eps=bn_eps, momentum=bn_momentum)
        self.activation = ACTIVATIONS[activation]()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.activation(self.bn(self.conv(x)))


class Add(nn.Cell):
    """Sum of two maps of equal shape; a cell, so that `quantize` can replace it."""

    def construct(self, first: ms.Tensor, second: ms.Tensor) -> ms.Tensor:
        return first + second


class Concat(nn.Cell):
    """Concatenates two maps (N, C, H, W) along the channels; a cell, so that `quantize` can replace it."""

    def construct(self, first: ms.Tensor, second: ms.Tensor) -> ms.Tensor:
        return ops.concat((first, second), 1)


class UpsampleNearest2x(nn.Cell):
    """Repeats every pixel twice along both axes: (N, C, H, W) -> (N, C, 2H, 2W).

    Built of concatenations and reshapes: the resize operators either take a fixed size, so that the network would be
    compiled again for each input size, or cannot be exported to ONNX.
    """

    cpu_optimized = True

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        n, c, h, w = ops.shape(x)
        # Only if the size is known when the graph is compiled.
        if self.training and not self.cpu_optimized and functional.isconstant(h):
            return ops.interpolate(x, size=(2 * h, 2 * w), mode="nearest")
        column = ops.reshape(x, (n, c, h * w, 1))
        wide = ops.reshape(ops.concat((column, column), 3), (n, c, h, 2 * w))
        return ops.reshape(ops.concat((wide, wide), 3), (n, c, 2 * h, 2 * w))


def init_uniform_fan_in(conv: nn.Conv2d) -> None:
    """Initialises weight and bias from U(-b, b), b = 1 / sqrt(fan in), as the published YOLO trainings do."""
    _, channels, height, width = conv.weight.shape
    bound = 1 / math.sqrt(channels * height * width)
    init_conv(conv, Uniform(bound), Uniform(bound))


def init_conv(conv: nn.Conv2d, weight: Initializer, bias: Initializer | str = "zeros") -> None:
    """Initialises the weight of a convolution and then its bias, if it has one."""
    conv.weight.set_data(initializer(weight, conv.weight.shape, conv.weight.dtype))
    if conv.has_bias:
        conv.bias.set_data(initializer(bias, conv.bias.shape, conv.bias.dtype))
