"""The all-reduce of a distributed training step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mindspore import Tensor, nn, ops

from msdet.training.flat import joined

# Of an all-reduce: large enough that its start does not count, small enough that several fit into a backward pass.
_BUCKET_SIZE = 8 * 2**20  # numbers, 32 MiB


def buckets(sizes: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """First and end of consecutive runs of tensors that hold about as many numbers as a bucket each; what is left over
    at the end is in none.

    Args:
        sizes: of the tensors.
    """
    found, first, filled = [], 0, 0
    for i, size in enumerate(sizes):
        filled += size
        if filled >= _BUCKET_SIZE:
            found.append((first, i + 1))
            first, filled = i + 1, 0
    return tuple(found)


class MeanOverRanks(nn.Cell):
    """A vector, averaged over all processes of a distributed run.

    Args:
        group_size: number of processes.
    """

    def __init__(self, group_size: int) -> None:
        super().__init__()
        self.group_size = group_size
        self.all_reduce = ops.AllReduce(ops.ReduceOp.SUM)

    def construct(self, vector: Tensor) -> Tensor:
        return self.all_reduce(vector) / self.group_size


class OverRanks(nn.Cell):
    """Gradient and numbers of this rank -> their means over all ranks; for one process the same.

    In buckets, whose means can be formed while the gradient of earlier layers is still being computed.

    Args:
        sizes: of the tensors that the gradient begins with; what follows them is small.
        mean: averages a vector over all ranks; None for one process.
    """

    def __init__(self, sizes: Sequence[int], mean: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__(auto_prefix=False)
        self.mean = mean
        self.buckets = buckets(sizes) if mean is not None else ()

    def in_buckets(self, gradients: tuple) -> tuple:
        """The gradient as vectors: one for each bucket, and what is in none."""
        vectors: tuple = ()
        for first, end in self.buckets:
            vectors += (joined(gradients[first:end]),)
        first = self.buckets[-1][1] if self.buckets else 0
        return (*vectors, joined(gradients[first:]))

    def construct(self, vectors: tuple, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Args: what `in_buckets` gives; float32 (n,). Returns the means: of the whole gradient as one vector, and of
        the numbers."""
        if self.mean is None:
            return vectors[0], numbers
        means: tuple = ()
        for i in range(len(self.buckets)):
            means += (self.mean(vectors[i]),)
        last = self.mean(ops.concat((vectors[-1], numbers)))
        count = numbers.shape[0]
        return ops.concat((*means, last[:-count])), last[-count:]
