"""Which image goes where: the order of an epoch, the share of a rank, the size of a batch.

Everything here is a pure function of (seed, epoch, position), so that a run does not depend on the number of workers,
can start in the middle of an epoch, and is the same on every rank where it has to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# The last word of a seed keeps the three streams apart: (seed, epoch, number, stream).
_SAMPLE, _ORDER, _SIZE = 1, 2, 3


def sample_rng(seed: int, epoch: int, key: int) -> np.random.Generator:
    """The generator all randomness of one sample in one epoch comes from."""
    return np.random.Generator(np.random.PCG64([seed, epoch, key, _SAMPLE]))


def epoch_order(count: int, seed: int, epoch: int, shuffle: bool) -> np.ndarray:
    """Sample numbers (count,) in the order of an epoch."""
    if not shuffle:
        return np.arange(count)
    return np.random.Generator(np.random.PCG64([seed, epoch, 0, _ORDER])).permutation(count)


def batch_size_px(
    sizes: Sequence[tuple[int, int]], resize_rate: int, seed: int, epoch: int, batch: int
) -> tuple[int, int]:
    """Network size (h, w) of a batch: one of `sizes`, drawn anew every `resize_rate` batches, alike on all ranks."""
    if len(sizes) == 1:
        return sizes[0]
    rng = np.random.Generator(np.random.PCG64([seed, epoch, batch // resize_rate, _SIZE]))
    return sizes[int(rng.integers(len(sizes)))]


@dataclass(frozen=True)
class Shard:
    """The part of each epoch that falls to one rank.

    In training every rank gets the same number of equally large batches. Batch b of all ranks together is the b-th run
    of group_size * batch_size images of the epoch's order, so the number of ranks does not change which images share a
    step. The images of an incomplete last step wait for another epoch (`drop_last`), or the order is continued from its
    beginning. In evaluation no image is lost or repeated: ranks take turns, so their shares differ by one image at
    most, and the last batch of a rank may be smaller.

    Attributes:
        count: images of the dataset.
        batch_size: images of a rank's batch.
        rank, group_size: this process and how many there are.
        training: which of the two rules holds.
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
            share = len(range(self.rank, self.count, self.group_size))
            return -(-share // self.batch_size)
        step = self.batch_size * self.group_size
        return max(1, self.count // step) if self.drop_last else -(-self.count // step)

    @property
    def dropped(self) -> int:
        """Images of an epoch that no rank sees."""
        return max(0, self.count - self.steps * self.batch_size * self.group_size) if self.training else 0

    @property
    def repeated(self) -> int:
        """Images of an epoch that are seen once more to fill the last step."""
        return max(0, self.steps * self.batch_size * self.group_size - self.count) if self.training else 0

    def positions(self, batch: int) -> np.ndarray:
        """Positions in the epoch's order, counted on beyond its end, of one batch of this rank."""
        if self.training:
            start = (batch * self.group_size + self.rank) * self.batch_size
            return np.arange(start, start + self.batch_size)
        share = np.arange(self.rank, self.count, self.group_size)
        return share[batch * self.batch_size : (batch + 1) * self.batch_size]

    def batch(self, order: np.ndarray, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Sample numbers of one batch and the keys of their random generators.

        The key is the sample's number; where the order is continued from its beginning, the same image comes again
        under another key, and is augmented in another way.
        """
        rounds, within = np.divmod(self.positions(batch), self.count)
        indices = order[within]
        return indices, indices + rounds * self.count
