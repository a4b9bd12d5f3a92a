"""The all-reduce of a distributed training step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mindspore import Tensor, nn, ops

from msdet.training.flat import concat_flat

# Elements per all-reduce (32 MiB): large enough that its latency is negligible, small enough that several overlap with
# one backward pass.
_BUCKET_SIZE = 8 * 2**20


def bucket_ranges(sizes: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Groups consecutive tensors into buckets of at least `_BUCKET_SIZE` elements.

    Args:
        sizes: number of elements of each tensor.

    Returns:
        (first, end) index of each bucket; trailing tensors that do not fill a bucket belong to none.
    """
    found, first, filled = [], 0, 0
    for i, size in enumerate(sizes):
        filled += size
        if filled >= _BUCKET_SIZE:
            found.append((first, i + 1))
            first, filled = i + 1, 0
    return tuple(found)


class AllReduceMean(nn.Cell):
    """Averages a vector over all processes of a distributed run.

    Args:
        group_size: number of processes.
    """

    def __init__(self, group_size: int) -> None:
        super().__init__()
        self.group_size = group_size
        self.all_reduce = ops.AllReduce(ops.ReduceOp.SUM)

    def construct(self, vector: Tensor) -> Tensor:
        return self.all_reduce(vector) / self.group_size


class GradientReducer(nn.Cell):
    """Averages the gradient and a few scalars over all ranks; with one process they are returned unchanged.

    The gradient is reduced in buckets, so that communication overlaps with the backward pass of earlier layers.

    Args:
        sizes: number of elements of the leading gradient tensors; the remaining tensors are small and share the last
            all-reduce with the scalars.
        mean: averages a vector over all ranks; None for one process.
    """

    def __init__(self, sizes: Sequence[int], mean: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__(auto_prefix=False)
        self.mean = mean
        self.buckets = bucket_ranges(sizes) if mean is not None else ()

    def flatten_buckets(self, gradients: tuple) -> tuple:
        """Flattens the gradient into one vector per bucket and one for the remaining tensors."""
        vectors: tuple = ()
        for first, end in self.buckets:
            vectors += (concat_flat(gradients[first:end]),)
        first = self.buckets[-1][1] if self.buckets else 0
        return (*vectors, concat_flat(gradients[first:]))

    def construct(self, vectors: tuple, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """Averages over all ranks.

        Args:
            vectors: the result of `flatten_buckets`.
            scalars: float32 (n,).

        Returns:
            the mean gradient as one vector, and the means of the scalars, (n,).
        """
        if self.mean is None:
            return vectors[0], scalars
        means: tuple = ()
        for i in range(len(self.buckets)):
            means += (self.mean(vectors[i]),)
        last = self.mean(ops.concat((vectors[-1], scalars)))
        count = scalars.shape[0]
        return ops.concat((*means, last[:-count])), last[-count:]
