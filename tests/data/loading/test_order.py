"""Order of an epoch, shards of ranks and input sizes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from msdet.data.loading.order import Shard, epoch_order, sample_input_size, sample_rng

COUNTS = st.tuples(st.integers(1, 60), st.integers(1, 9), st.integers(1, 5))


def epoch_of(count, batch_size, group_size, training, drop_last=True):
    """Positions of every batch of every rank."""
    shards = [Shard(count, batch_size, rank, group_size, training, drop_last) for rank in range(group_size)]
    return shards, [[shard.positions(batch) for batch in range(shard.steps)] for shard in shards]


@given(COUNTS)
def test_evaluation_covers_every_image_once(numbers):
    count, batch_size, group_size = numbers
    shards, batches = epoch_of(count, batch_size, group_size, training=False)
    seen = np.concatenate([batch for rank in batches for batch in rank] or [[]])
    assert sorted(seen.tolist()) == list(range(count))
    shard_sizes = [sum(map(len, rank)) for rank in batches]
    assert max(shard_sizes) - min(shard_sizes) <= 1
    for rank in batches:
        assert all(len(batch) == batch_size for batch in rank[:-1])
        assert all(len(batch) for batch in rank)
    assert all(shard.dropped == shard.repeated == 0 for shard in shards)


@given(COUNTS, st.booleans())
def test_training_shards_have_equal_sizes_and_do_not_overlap(numbers, drop_last):
    count, batch_size, group_size = numbers
    shards, batches = epoch_of(count, batch_size, group_size, True, drop_last)
    assert len({len(rank) for rank in batches}) == 1
    assert all(len(batch) == batch_size for rank in batches for batch in rank)
    seen = sorted(int(position) for rank in batches for batch in rank for position in batch)
    assert seen == list(range(len(seen)))
    assert shards[0].steps >= 1
    if drop_last and count >= batch_size * group_size:
        assert len(seen) <= count
        assert shards[0].dropped == count - len(seen) < batch_size * group_size
    else:
        assert len(seen) >= count
        assert shards[0].repeated == len(seen) - count


def test_images_of_a_step_do_not_depend_on_the_number_of_ranks():
    one = Shard(50, 8)
    two = [Shard(50, 4, rank, 2) for rank in range(2)]
    for step in range(one.steps):
        together = np.concatenate([shard.positions(step) for shard in two])
        np.testing.assert_array_equal(together, one.positions(step))


def test_repeated_images_have_another_key():
    order = epoch_order(5, 0, 0, True)
    indices, keys = Shard(5, 12).batch(order, 0)
    assert sorted(indices[:5].tolist()) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(indices[5:10], indices[:5])
    assert len(set(keys.tolist())) == 12
    np.testing.assert_array_equal(keys % 5, indices)


def test_order_depends_on_epoch_and_seed():
    orders = {
        (seed, epoch): tuple(epoch_order(40, seed, epoch, True).tolist()) for seed in range(3) for epoch in range(3)
    }
    assert len(set(orders.values())) == 9
    assert orders[1, 2] == tuple(epoch_order(40, 1, 2, True).tolist())
    assert sorted(orders[1, 2]) == list(range(40))
    assert epoch_order(4, 1, 2, False).tolist() == [0, 1, 2, 3]


def test_sample_generators_are_independent():
    values = {sample_rng(seed, epoch, key).uniform() for seed in range(4) for epoch in range(4) for key in range(4)}
    assert len(values) == 64
    assert sample_rng(1, 2, 3).uniform() == sample_rng(1, 2, 3).uniform()


def test_sizes_change_every_resize_rate_batches():
    sizes = [(side, side) for side in range(320, 609, 32)]
    sizes_of_batches = [sample_input_size(sizes, 10, 5, 1, batch) for batch in range(400)]
    for start in range(0, 400, 10):
        assert len(set(sizes_of_batches[start : start + 10])) == 1
    assert set(sizes_of_batches) == set(sizes)
    assert sizes_of_batches != [sample_input_size(sizes, 10, 5, 2, batch) for batch in range(400)]
    assert sample_input_size([(416, 416)], 1, 0, 0, 7) == (416, 416)
