"""The layers of a training network in the forms that its device runs best.

Networks are built of layers in forms that suit a CPU. Before a training step is compiled, `suit` gives them those of
the device at hand; parameters, shapes and results stay. A network that is evaluated or exported keeps its own forms,
which every exporter knows.

On Ascend this is what MindSpore's own code for it does with the layers (tests/ascend); nothing was run on a chip. No
GPU was run.
"""

from __future__ import annotations

from collections.abc import Callable

import mindspore as ms
from mindspore import mint, nn, ops
from mindspore.ops.auto_generate import BatchNormExt

from msdet.layers.conv import LeakyReLU, Mish
from msdet.quantization.quantize import FakeQuantConv
from msdet.runtime.device import device_traits, launches_each_operator

# Pixels of a batch from which biased and unbiased variance are taken for one: they differ by 0.1 %, a fortieth of what
# the variance of so many samples scatters by, sqrt(2 / n).
_MANY = 1024


class AclnnConv(nn.Cell):
    """In the place of a convolution's primitive, where each operator is launched by itself: both gradients by one
    kernel, and kernels that need not be compiled at start (aclnnConvolution, aclnnConvolutionBackward).

    Args:
        conv: that it stands in.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.options = conv.stride, symmetric_padding(conv), conv.dilation, conv.group

    def construct(self, x: ms.Tensor, weight: ms.Tensor) -> ms.Tensor:
        stride, padding, dilation, groups = self.options
        return mint.nn.functional.conv2d(x, weight, None, stride, padding, dilation, groups)


class AclnnActivation(nn.Cell):
    """One kernel forward and one back, where the library's own cell takes several.

    Args:
        function: of `mint`.
        arguments: that follow the tensor.
    """

    def __init__(self, function: Callable[..., ms.Tensor], *arguments: float) -> None:
        super().__init__()
        self.function, self.arguments = function, arguments

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.function(x, *self.arguments)


class AclnnBatchNorm(nn.Cell):
    """In the place of a batch norm's primitive for training, where each operator is launched by itself: one kernel
    forward and one back (aclnnBatchNorm, aclnnBatchNormBackward) in the place of two each.

    The moving statistics are not touched: setting them, and setting them back after an overflow, would cost each layer
    four more. Instead the backward pass tells those of the batch, as the gradients of the moving mean and variance,
    which have none otherwise: the mean, and 1 / sqrt(variance + eps) with the unbiased variance.

    Args:
        eps: added to the variance.
    """

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.forward = BatchNormExt()
        self.tell = TellStatistics()

    def construct(
        self, x: ms.Tensor, gamma: ms.Tensor, beta: ms.Tensor, mean: ms.Tensor, variance: ms.Tensor
    ) -> tuple[ms.Tensor]:
        """As of `ops.BatchNorm`, but for the one output."""
        y, batch_mean, inverse = self.forward(x, gamma, beta, None, None, True, 0.1, self.eps)
        return (self.tell(y, batch_mean, inverse, mean, variance),)


class TellStatistics(nn.Cell):
    """y unchanged; the gradients of `mean` and `variance` are the statistics of the batch, see `AclnnBatchNorm`."""

    def construct(
        self, y: ms.Tensor, batch_mean: ms.Tensor, inverse: ms.Tensor, mean: ms.Tensor, variance: ms.Tensor
    ) -> ms.Tensor:
        """Args: what a batch norm gives, mean and 1 / sqrt(biased variance + eps) of the batch, each (C,); the moving
        statistics, (C,)."""
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
        if count < _MANY:
            # eps is divided by n / (n - 1) too, which is out of float32's reach.
            inverse = inverse * (max(count - 1, 1) / count) ** 0.5
        return dout, ops.zeros_like(batch_mean), ops.zeros_like(inverse), batch_mean, inverse


def suit(network: nn.Cell) -> None:
    """Gives the layers of a network, in place, the forms in which the device of this process trains best."""
    if not device_traits().native_layers:
        return
    single = launches_each_operator()
    # These convolutions look at the moving variance themselves, so that it has to be kept in its place.
    convolutions = [cell for _, cell in network.cells_and_names() if isinstance(cell, FakeQuantConv) and cell.folds]
    looked_at = {id(conv.variance) for conv in convolutions}
    for _, cell in network.cells_and_names():
        if hasattr(cell, "cpu_optimized"):
            cell.cpu_optimized = False
            if single and isinstance(cell, LeakyReLU):
                cell.leaky_relu = AclnnActivation(mint.nn.functional.leaky_relu, cell.slope)
            elif single and isinstance(cell, Mish):
                cell.library = AclnnActivation(mint.nn.functional.mish)
        elif single and isinstance(cell, nn.Conv2d) and symmetric_padding(cell) is not None:
            cell.conv2d = AclnnConv(cell)
        elif single and isinstance(cell, nn.BatchNorm2d) and id(cell.moving_variance) not in looked_at:
            cell.bn_train = AclnnBatchNorm(cell.eps)


def symmetric_padding(conv: nn.Conv2d) -> tuple[int, int] | None:
    """Rows above and below, columns left and right that a convolution adds; None if the sides differ."""
    if conv.pad_mode == "pad":
        top, bottom, left, right = conv.padding if isinstance(conv.padding, tuple) else (conv.padding,) * 4
        return (top, left) if (top, left) == (bottom, right) else None
    if conv.pad_mode == "valid" or tuple(conv.kernel_size) == (1, 1):
        return 0, 0
    # "same" of another stride depends on the size of the map, and may need more behind than before.
    edges = [d * (k - 1) for k, d in zip(conv.kernel_size, conv.dilation, strict=True)]
    if tuple(conv.stride) != (1, 1) or any(edge % 2 for edge in edges):
        return None
    return edges[0] // 2, edges[1] // 2
