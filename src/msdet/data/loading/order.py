"""The order of an epoch, the shard of a rank and the input size of a batch.

Everything here is a pure function of (seed, epoch, position), so a run does not depend on the number of workers, can
start in the middle of an epoch, and is the same on all ranks where it has to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# The last word of a seed separates the three random streams: (seed, epoch, number, stream).
_SAMPLE, _ORDER, _SIZE = 1, 2, 3


def sample_rng(seed: int, epoch: int, key: int) -> np.random.Generator:
    """The generator of all random numbers of a sample in an epoch."""
    return np.random.Generator(np.random.PCG64([seed, epoch, key, _SAMPLE]))


def epoch_order(count: int, seed: int, epoch: int, shuffle: bool) -> np.ndarray:
    """Sample positions (count,) in the order of an epoch."""
    if not shuffle:
        return np.arange(count)
    return np.random.Generator(np.random.PCG64([seed, epoch, 0, _ORDER])).permutation(count)


def sample_input_size(
    sizes: Sequence[tuple[int, int]], resize_rate: int, seed: int, epoch: int, batch: int
) -> tuple[int, int]:
    """Input size (h, w) of a batch: one of `sizes`, sampled every `resize_rate` batches, the same on all ranks."""
    if len(sizes) == 1:
        return sizes[0]
    rng = np.random.Generator(np.random.PCG64([seed, epoch, batch // resize_rate, _SIZE]))
    return sizes[int(rng.integers(len(sizes)))]


@dataclass(frozen=True)
class Shard:
    """The shard of a rank in each epoch.

    In training, every rank gets the same number of full batches. Batch b of all ranks together is the b-th chunk of
    group_size * batch_size images of the epoch's order, so for the same global batch size the images of a step do not
    depend on the number of ranks. An incomplete last step is dropped (`drop_last`) or filled from the beginning of the
    order. In evaluation every image appears exactly once: images are distributed round-robin, and the last batch of a
    rank may be smaller.

    Attributes:
        count: images of the dataset.
        batch_size: images per batch of a rank.
        rank, group_size: rank of this process, and number of ranks.
        training: selects the rule.
        drop_last: training only.
    """

    count: int
    batch_size: int
    rank: int = 0
    group_size: int = 1
    training: bool = True
    drop_last: bool = True

    @property
    def steps(self) -> int:
        """Batches of an epoch on this rank; at least one in training."""
        if not self.training:
            shard = len(range(self.rank, self.count, self.group_size))
            return -(-shard // self.batch_size)
        step = self.batch_size * self.group_size
        return max(1, self.count // step) if self.drop_last else -(-self.count // step)

    @property
    def dropped(self) -> int:
        """Images of an epoch that are dropped."""
        return max(0, self.count - self.steps * self.batch_size * self.group_size) if self.training else 0

    @property
    def repeated(self) -> int:
        """Images of an epoch that are repeated to fill the last step."""
        return max(0, self.steps * self.batch_size * self.group_size - self.count) if self.training else 0

    def positions(self, batch: int) -> np.ndarray:
        """Positions in the epoch's order of one batch of this rank; positions beyond the end wrap around."""
        if self.training:
            start = (batch * self.group_size + self.rank) * self.batch_size
            return np.arange(start, start + self.batch_size)
        shard = np.arange(self.rank, self.count, self.group_size)
        return shard[batch * self.batch_size : (batch + 1) * self.batch_size]

    def batch(self, order: np.ndarray, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Sample positions of one batch and the keys of their random generators.

        The key is the position of the sample; a sample repeated to fill the last step gets another key, and so another
        augmentation.
        """
        rounds, within = np.divmod(self.positions(batch), self.count)
        indices = order[within]
        return indices, indices + rounds * self.count
