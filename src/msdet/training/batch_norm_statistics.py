"""Moving statistics of batch norms whose kernels return batch statistics instead of updating them in place."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from msdet.training.device_layers import AclnnBatchNorm
from msdet.training.flat import concat_flat, fill_vector, split_by_name, vector_parameter


class BatchNormStatistics(nn.Cell):
    """The moving statistics of all `AclnnBatchNorm` layers of a network, as one vector.

    The parameters of the network are not updated by a training step: call `store` before they are read.

    Attributes:
        parameters: moving means, then moving variances of the network; empty if it has no `AclnnBatchNorm`.
        moving: the vector.

    Args:
        network: the network in training.
    """

    def __init__(self, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        norms = [cell for _, cell in network.cells_and_names() if _returns_statistics(cell)]
        means, variances = [cell.moving_mean for cell in norms], [cell.moving_variance for cell in norms]
        self.parameters = ms.ParameterTuple([*means, *variances])
        self.count = len(norms)
        if norms:
            sizes = [cell.moving_mean.size for cell in norms]
            self.moving = vector_parameter("moving", 2 * sum(sizes))
            self.eps = _repeated([cell.eps for cell in norms], sizes)
            # BatchNorm2d stores the momentum as PyTorch does: the weight of the new value.
            self.momentum = _repeated([cell.momentum for cell in norms] * 2, sizes * 2)
            self.load()

    def from_gradients(self, gradients: tuple) -> Tensor:
        """Mean and unbiased variance of each channel of the batch as one vector, from the gradients of `parameters`
        (see `StatisticsAsGradients`); a single zero if there are none."""
        if self.count == 0:
            return ops.zeros((1,), ms.float32)
        inverse = concat_flat(gradients[self.count :])
        return ops.concat((concat_flat(gradients[: self.count]), ops.reciprocal(ops.square(inverse)) - self.eps))

    def update(self, batch_statistics: Tensor, ok: Tensor) -> tuple:
        """Updates the moving statistics with those of a batch, unless the step is skipped (`ok` is False)."""
        if self.count == 0:
            return ()
        updated = self.moving + (batch_statistics - self.moving) * self.momentum
        return (ops.assign(self.moving, ops.select(ok, updated, self.moving)),)

    def store(self) -> None:
        """Copies the vector into the parameters of the network."""
        if self.count:
            values = split_by_name(self.moving, self.parameters)
            for parameter in self.parameters:
                parameter.set_data(Tensor(values[parameter.name]))

    def load(self) -> None:
        """Copies the parameters of the network into the vector."""
        if self.count:
            fill_vector(self.moving, {p.name: p.asnumpy() for p in self.parameters}, self.parameters)


def _returns_statistics(cell: nn.Cell) -> bool:
    is_norm = isinstance(cell, nn.BatchNorm2d) and isinstance(cell.bn_train, AclnnBatchNorm)
    # A frozen batch norm does not update its statistics.
    return is_norm and cell.use_batch_statistics is not False


def _repeated(values: Sequence[float], sizes: Sequence[int]) -> Tensor:
    return Tensor(np.repeat(np.array(values, np.float32), sizes))
