"""Layer implementations that are fastest on the training device.

Networks are built with implementations for CPUs. Before a training step is compiled, `use_device_layers` replaces them
by those of the device in use; parameters, shapes and results stay the same. A network for evaluation or export keeps
the CPU implementations, which every exporter supports.

The choices for Ascend rest on the graphs that MindSpore's Ascend code compiles (tests/ascend); they were not run on a
chip, and not on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable

import mindspore as ms
from mindspore import mint, nn, ops
from mindspore.ops.auto_generate import BatchNormExt

from msdet.layers.conv import LeakyReLU, Mish
from msdet.quantization.quantize import FakeQuantConv
from msdet.runtime.device import device_traits, launches_each_operator

# From this number of pixels in a batch on, biased and unbiased variance are treated as equal: they differ by 0.1 %, a
# fortieth of the standard error of a variance of n samples, sqrt(2 / n).
_MANY_PIXELS = 1024


class AclnnConv(nn.Cell):
    """Replaces the primitive of a convolution where operators are launched one by one: one kernel computes both
    gradients, and none is compiled at start-up (aclnnConvolution, aclnnConvolutionBackward).

    Args:
        conv: the layer whose primitive is replaced.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.options = conv.stride, symmetric_padding(conv), conv.dilation, conv.group

    def construct(self, x: ms.Tensor, weight: ms.Tensor) -> ms.Tensor:
        stride, padding, dilation, groups = self.options
        return mint.nn.functional.conv2d(x, weight, None, stride, padding, dilation, groups)


class AclnnActivation(nn.Cell):
    """An activation with one kernel each for forward and backward pass, where the library's cell needs several.

    Args:
        function: a function of `mint`.
        arguments: its arguments after the tensor.
    """

    def __init__(self, function: Callable[..., ms.Tensor], *arguments: float) -> None:
        super().__init__()
        self.function, self.arguments = function, arguments

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.function(x, *self.arguments)


class AclnnBatchNorm(nn.Cell):
    """Replaces the training primitive of a batch norm where operators are launched one by one: one kernel each for
    forward and backward pass (aclnnBatchNorm, aclnnBatchNormBackward) instead of two.

    It does not update the moving statistics: updating them, and restoring them after an overflow, would cost four more
    kernels per layer. Instead the backward pass returns the statistics of the batch as the gradients of the moving mean
    and variance, which otherwise have none: the mean, and 1 / sqrt(variance + eps) with the unbiased variance.

    Args:
        eps: added to the variance.
    """

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.forward = BatchNormExt()
        self.as_gradients = StatisticsAsGradients()

    def construct(
        self, x: ms.Tensor, gamma: ms.Tensor, beta: ms.Tensor, mean: ms.Tensor, variance: ms.Tensor
    ) -> tuple[ms.Tensor]:
        """Like `ops.BatchNorm`, but with a single output."""
        y, batch_mean, inverse = self.forward(x, gamma, beta, None, None, True, 0.1, self.eps)
        return (self.as_gradients(y, batch_mean, inverse, mean, variance),)


class StatisticsAsGradients(nn.Cell):
    """Returns y unchanged; the backward pass returns the batch statistics as the gradients of `mean` and `variance`,
    see `AclnnBatchNorm`."""

    def construct(
        self, y: ms.Tensor, batch_mean: ms.Tensor, inverse: ms.Tensor, mean: ms.Tensor, variance: ms.Tensor
    ) -> ms.Tensor:
        """Returns y.

        Args:
            y: output of the batch norm, (N, C, H, W).
            batch_mean, inverse: mean and 1 / sqrt(biased variance + eps) of the batch, (C,).
            mean, variance: moving statistics, (C,).
        """
        return y

    def bprop(
        self,
        y: ms.Tensor,
        batch_mean: ms.Tensor,
        inverse: ms.Tensor,
        mean: ms.Tensor,
        variance: ms.Tensor,
        out: ms.Tensor,
        dout: ms.Tensor,
    ) -> tuple:
        n, _, h, w = y.shape
        count = n * h * w
        if count < _MANY_PIXELS:
            # This scales eps by n / (n - 1) too, a difference below the precision of float32 for a small eps.
            inverse = inverse * (max(count - 1, 1) / count) ** 0.5
        return dout, ops.zeros_like(batch_mean), ops.zeros_like(inverse), batch_mean, inverse


def use_device_layers(network: nn.Cell) -> None:
    """Replaces the layers of a network, in place, by the implementations that train fastest on the device in use."""
    if not device_traits().native_layers:
        return
    single = launches_each_operator()
    # Convolutions that fold their batch norm read its moving variance, so it must be updated in place.
    folding = [cell for _, cell in network.cells_and_names() if isinstance(cell, FakeQuantConv) and cell.folds]
    read_in_place = {id(conv.variance) for conv in folding}
    # In PyNative mode the gradients by which `AclnnBatchNorm` reports its statistics are zero.
    reports_statistics = single and ms.get_context("mode") == ms.GRAPH_MODE
    for _, cell in network.cells_and_names():
        if hasattr(cell, "cpu_optimized"):
            cell.cpu_optimized = False
            if single and isinstance(cell, LeakyReLU):
                cell.leaky_relu = AclnnActivation(mint.nn.functional.leaky_relu, cell.slope)
            elif single and isinstance(cell, Mish):
                cell.library = AclnnActivation(mint.nn.functional.mish)
        elif single and isinstance(cell, nn.Conv2d) and symmetric_padding(cell) is not None:
            cell.conv2d = AclnnConv(cell)
        elif isinstance(cell, nn.BatchNorm2d) and reports_statistics and id(cell.moving_variance) not in read_in_place:
            cell.bn_train = AclnnBatchNorm(cell.eps)


def symmetric_padding(conv: nn.Conv2d) -> tuple[int, int] | None:
    """Padding of a convolution as (rows above and below, columns left and right); None if it is asymmetric."""
    if conv.pad_mode == "pad":
        top, bottom, left, right = conv.padding if isinstance(conv.padding, tuple) else (conv.padding,) * 4
        return (top, left) if (top, left) == (bottom, right) else None
    if conv.pad_mode == "valid" or tuple(conv.kernel_size) == (1, 1):
        return 0, 0
    # With another stride, "same" depends on the size of the map and may pad more after than before.
    edges = [d * (k - 1) for k, d in zip(conv.kernel_size, conv.dilation, strict=True)]
    if tuple(conv.stride) != (1, 1) or any(edge % 2 for edge in edges):
        return None
    return edges[0] // 2, edges[1] // 2
