"""What a loss needs to know of the other processes of a distributed training."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops
from mindspore.communication import GlobalComm, get_group_size


class SharedCount(nn.Cell):
    """The count that a loss is divided by, so that the mean over all ranks is the loss of the whole batch.

    A rank that divides its sum by its own count gives its images a weight that depends on which images it has. Divided
    by the count of all ranks over their number, the mean of the ranks' losses, and of their gradients, is the sum of
    all over the count of all. With one process it is the count itself. Build it after the ranks have joined.

    Args:
        minimum: least count of the whole batch, against division by zero.
        added: to the count of the whole batch.
    """

    def __init__(self, minimum: float = 1.0, added: float = 0.0) -> None:
        super().__init__()
        self.added = added
        self.minimum = minimum
        self.group_size = get_group_size() if GlobalComm.INITED else 1
        if self.group_size > 1:
            self.all_reduce = ops.AllReduce(ops.ReduceOp.SUM)

    def construct(self, count: ms.Tensor) -> ms.Tensor:
        """float32 scalar -> float32 scalar; no gradient goes through it."""
        count = ops.stop_gradient(count)
        if self.group_size == 1:
            return ops.maximum(count + self.added, self.minimum)
        return ops.maximum(self.all_reduce(count) + self.added, self.minimum) / self.group_size
