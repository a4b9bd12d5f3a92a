"""Normalisation of a loss by a count over all ranks of a distributed training."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops
from mindspore.communication import GlobalComm, get_group_size


class SharedCount(nn.Cell):
    """The count to divide a loss by, such that the mean over all ranks is the loss of the whole batch.

    If each rank divided by its own count, the weight of an image would depend on the rank that has it. Divided by the
    total count over the number of ranks, the mean of the losses (and of the gradients) is the total sum over the total
    count. In one process this is the count itself. Build it after the process group is initialised.

    Args:
        minimum: lower bound of the count of the whole batch; avoids division by zero.
        added: added to the count of the whole batch.
    """

    def __init__(self, minimum: float = 1.0, added: float = 0.0) -> None:
        super().__init__()
        self.added = added
        self.minimum = minimum
        self.group_size = get_group_size() if GlobalComm.INITED else 1
        if self.group_size > 1:
            self.all_reduce = ops.AllReduce(ops.ReduceOp.SUM)

    def construct(self, count: ms.Tensor) -> ms.Tensor:
        """float32 scalar -> float32 scalar, without gradient."""
        count = ops.stop_gradient(count)
        if self.group_size == 1:
            return ops.maximum(count + self.added, self.minimum)
        return ops.maximum(self.all_reduce(count) + self.added, self.minimum) / self.group_size
