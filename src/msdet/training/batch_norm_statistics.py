"""Statistics of batch norms that a device's kernels tell of, instead of keeping them themselves."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from msdet.training.device_layers import AclnnBatchNorm
from msdet.training.flat import fill_vector, joined, parts_by_name, vector_of


class ToldStatistics(nn.Cell):
    """The moving statistics of all batch norms of a network that are computed by `AclnnBatchNorm`, as one vector.

    Between the steps the parameters of the network do not hold them: `pour` before these are read.

    Attributes:
        parameters: moving means and then moving variances of the network; empty if no batch norm is such a one.
        moving: the vector.

    Args:
        network: that is trained.
    """

    def __init__(self, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        norms = [cell for _, cell in network.cells_and_names() if _tells(cell)]
        means, variances = [cell.moving_mean for cell in norms], [cell.moving_variance for cell in norms]
        self.parameters = ms.ParameterTuple([*means, *variances])
        self.count = len(norms)
        if norms:
            sizes = [cell.moving_mean.size for cell in norms]
            self.moving = vector_of("moving", 2 * sum(sizes))
            self.eps = _repeated([cell.eps for cell in norms], sizes)
            # MindSpore keeps the momentum of a batch norm in PyTorch's sense: the share of the new.
            self.share = _repeated([cell.momentum for cell in norms] * 2, sizes * 2)
            self.take()

    def of_batch(self, gradients: tuple) -> Tensor:
        """Mean and unbiased variance of every channel of a batch, as one vector, out of what came back as the gradients
        of `parameters`; one zero where there are none."""
        if self.count == 0:
            return ops.zeros((1,), ms.float32)
        inverse = joined(gradients[self.count :])
        return ops.concat((joined(gradients[: self.count]), ops.reciprocal(ops.square(inverse)) - self.eps))

    def follow(self, of_batch: Tensor, ok: Tensor) -> tuple:
        """Moves the statistics towards those of a batch, unless that was left out."""
        if self.count == 0:
            return ()
        moved = self.moving + (of_batch - self.moving) * self.share
        return (ops.assign(self.moving, ops.select(ok, moved, self.moving)),)

    def pour(self) -> None:
        """Writes the statistics into the parameters of the network."""
        if self.count:
            values = parts_by_name(self.moving, self.parameters)
            for parameter in self.parameters:
                parameter.set_data(Tensor(values[parameter.name]))

    def take(self) -> None:
        """Takes the statistics from the parameters of the network."""
        if self.count:
            fill_vector(self.moving, {p.name: p.asnumpy() for p in self.parameters}, self.parameters)


def _tells(cell: nn.Cell) -> bool:
    is_norm = isinstance(cell, nn.BatchNorm2d) and isinstance(cell.bn_train, AclnnBatchNorm)
    # A frozen one uses its statistics and leaves them as they are.
    return is_norm and cell.use_batch_statistics is not False


def _repeated(values: Sequence[float], sizes: Sequence[int]) -> Parameter:
    return Tensor(np.repeat(np.array(values, np.float32), sizes))
