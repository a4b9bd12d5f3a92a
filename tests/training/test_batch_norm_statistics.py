"""Moving statistics in one vector of the training step against those of a plain `nn.BatchNorm2d`."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from msdet.training.quantization_aware import rebuild_step
from msdet.training.step import StepOptions, TrainStep
from tests.training.batch_norm_on_cpu import Convolved
from tests.training.linear import everything, run


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
@pytest.mark.parametrize("pixels", [2, 20], ids=["few", "many"])
def test_statistics_equal_those_of_a_plain_batch_norm(mode, pixels):
    """With a moving average, and with a skipped step."""
    options = StepOptions(ema_decay=0.8, weight_decay=0.01)
    batches = np.random.default_rng(0).standard_normal((5, 3, 2, pixels, pixels)).astype(np.float32)
    batches[2, 0, 0, 0, 0] = np.inf
    states = []
    # A large eps reveals where it is forgotten; with few pixels it must be small, see `StatisticsAsGradients`.
    eps = 0.5 if pixels == 20 else 1e-3
    for as_gradients in (False, True):
        step, results = run(options, batches, mode, TrainStep(Convolved(as_gradients, eps=eps), options))
        assert [result.is_finite for result in results] == [True, True, False, True, True]
        step.store_statistics()
        states.append(everything(step))
    assert len(step.statistics.parameters) == 4
    plain, ours = states
    assert plain.keys() == ours.keys()
    for name, value in plain.items():
        np.testing.assert_allclose(ours[name], value, rtol=2e-3 if pixels == 20 else 2e-4, atol=1e-5, err_msg=name)
    assert not np.allclose(ours["1.moving_mean"], 0) and not np.allclose(ours["3.moving_variance"], 1)


def test_statistics_are_loaded_from_and_stored_to_the_network():
    options = StepOptions()
    step = TrainStep(Convolved(as_gradients=True), options)
    step.loss_cell.network[1].moving_mean.set_data(Tensor(np.float32([1, 2, 3])))
    step.load_statistics()
    step.loss_cell.network[1].moving_mean.set_data(Tensor(np.float32([0, 0, 0])))
    step.store_statistics()
    assert step.loss_cell.network[1].moving_mean.asnumpy().tolist() == [1, 2, 3]


def test_a_frozen_batch_norm_has_no_statistics_to_update():
    assert len(TrainStep(Convolved(as_gradients=True, frozen=True), StepOptions()).statistics.parameters) == 0


def test_a_rebuilt_step_continues_with_the_same_statistics():
    options = StepOptions(momentum=0.5)
    batches = np.random.default_rng(0).standard_normal((4, 3, 2, 2, 2)).astype(np.float32)
    whole, _ = run(options, batches, step=TrainStep(Convolved(as_gradients=True), options))
    half, _ = run(options, batches[:2], step=TrainStep(Convolved(as_gradients=True), options))
    other, _ = run(options, batches[2:], step=rebuild_step(half), first=2)
    for step in (whole, other):
        step.store_statistics()
    for name, value in everything(whole).items():
        np.testing.assert_array_equal(everything(other)[name], value, err_msg=name)
