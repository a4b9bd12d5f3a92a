"""The report of a training step to the host."""

import numpy as np

from msdet.training.step import StepOptions, TrainStep
from msdet.training.step_report import StepReport
from tests.training.linear import BATCHES, START, Linear, MeanOfTwoRanks


def test_ranks_share_losses_finiteness_and_stop_requests():
    """The mean of the losses; whether any was not finite, or was asked to stop."""
    step = TrainStep(Linear(), StepOptions(), MeanOfTwoRanks(is_other_same=False)).set_train()
    numbers = step.launch([BATCHES[0]], 0.1, stop=True).read()
    np.testing.assert_allclose(numbers.losses, np.float32(numbers.own_losses) / 2)
    assert not numbers.is_finite and numbers.is_stop_requested
    assert not step.run([BATCHES[0]], 0.1).is_stop_requested
    np.testing.assert_array_equal(step.loss_cell.network.weight.asnumpy(), START)


def test_the_vector_of_a_step_is_parsed():
    """Two losses: means over the ranks, then the values of this rank, each with `is finite` and `stop`."""
    report = StepReport.parse([1.5, 2.5, 0.5, 0.25, 1.0, 2.0, 1.0, 0.0, 7.0, 0.0, 1024.0])
    assert report == StepReport(
        losses=(1.5, 2.5), own_losses=(1.0, 2.0), gradient_norm=7.0, is_finite=False, scale=1024.0,
        is_stop_requested=True,
    )  # fmt: skip
    assert not StepReport.parse([1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 7.0, 1.0, 1.0]).is_stop_requested
