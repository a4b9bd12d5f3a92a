"""The all-reduce of a training step, with a stand-in for the other rank."""

import numpy as np
import pytest

from msdet.training import all_reduce
from msdet.training.step import StepOptions, TrainStep
from tests.training.linear import Linear, MeanOfTwoRanks, everything, run


def test_buckets_are_consecutive_tensors_and_omit_the_rest(monkeypatch):
    monkeypatch.setattr(all_reduce, "_BUCKET_SIZE", 10)
    assert all_reduce.bucket_ranges([4, 6, 3, 20, 9, 0]) == ((0, 2), (2, 4))
    assert all_reduce.bucket_ranges([]) == ()


@pytest.mark.parametrize("size", [1, 100])
def test_ranks_with_equal_batches_train_as_one_process(monkeypatch, size):
    monkeypatch.setattr(all_reduce, "_BUCKET_SIZE", size)
    options = StepOptions(weight_decay=0.01, clip_norm=0.5, loss_scale=8.0)
    alone, one = run(options)
    step, two = run(options, step=TrainStep(Linear(), options, MeanOfTwoRanks(is_other_same=True)))
    assert len(step.reducer.buckets) == (size == 1)
    for name, value in everything(alone).items():
        np.testing.assert_array_equal(everything(step)[name], value, err_msg=name)
    assert one == two
