"""The training step against the same arithmetic in float64 numpy, on a linear network."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from msdet.training import all_reduce as over_ranks
from msdet.training import step as train_step
from msdet.training.quantization_aware import rebuilt
from msdet.training.step import StepOptions, TrainStep
from tests.training.told_layers import Convolved

RNG = np.random.default_rng(0)
START = RNG.standard_normal((3, 4)).astype(np.float32)
BIAS = RNG.standard_normal(3).astype(np.float32)
BATCHES = RNG.standard_normal((8, 5, 4)).astype(np.float32)


class Linear(nn.Cell):
    """Loss: mean of (x W^T + b)^2, and a second loss 0.5 * sum of b."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.network = nn.Dense(4, 3)
        self.network.weight.set_data(Tensor(START))
        self.network.bias.set_data(Tensor(BIAS))

    def construct(self, images):
        losses = (ops.reduce_mean(ops.square(self.network(images))), 0.5 * ops.reduce_sum(self.network.bias))
        return losses[0] + losses[1], losses


def numpy_gradient(w, b, x):
    out = x.astype(np.float64) @ w.T + b
    d = 2 * out / out.size
    return d.T @ x, d.sum(0) + 0.5


class Normalised(nn.Cell):
    """A layer with batch norm, and an observer of the largest input; the loss is the mean of its squared output."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.network = nn.SequentialCell(nn.Dense(4, 3), nn.BatchNorm1d(3))
        self.network[0].weight.set_data(Tensor(START))
        self.network.largest = ms.Parameter(Tensor(0.0, ms.float32), name="largest", requires_grad=False)

    def construct(self, images):
        largest = ops.assign(self.network.largest, ops.maximum(self.network.largest, ops.reduce_max(images)))
        loss = ops.reduce_mean(ops.square(self.network(images) + 1)) + 0 * ops.stop_gradient(largest)
        return loss, (loss,)


class Slow:
    """The same optimiser, written out tensor by tensor in float64."""

    def __init__(self, options):
        self.o = options
        self.w, self.b = START.astype(np.float64), BIAS.astype(np.float64)
        self.vw, self.vb = np.zeros_like(self.w), np.zeros_like(self.b)
        self.aw, self.ab = self.w.copy(), self.b.copy()
        self.window = []

    def step(self, x, rate, position, decay):
        if position == 0:
            self.window = []
        gw, gb = numpy_gradient(self.w, self.b, x)
        self.window.append((gw * self.o.loss_weight, gb * self.o.loss_weight))
        if position < self.o.accumulate_steps - 1:
            return
        if not all(np.isfinite(g).all() for pair in self.window for g in pair):
            return
        gw, gb = (np.mean([pair[i] for pair in self.window], 0) for i in (0, 1))
        norm = np.sqrt((gw**2).sum() + (gb**2).sum())
        if self.o.clip_norm_each:
            gw, gb = (g * min(1, self.o.clip_norm_each / (np.sqrt((g**2).sum()) + 1e-6)) for g in (gw, gb))
            norm = np.sqrt((gw**2).sum() + (gb**2).sum())
        factor = min(1, self.o.clip_norm / (norm + 1e-6)) if self.o.clip_norm else 1
        self.vw = self.o.momentum * self.vw + gw * factor + self.o.weight_decay * self.w
        bias_decay = self.o.weight_decay if self.o.decay_norm_and_bias else 0
        self.vb = self.o.momentum * self.vb + gb * factor + bias_decay * self.b
        self.w, self.b = self.w - rate * self.vw, self.b - rate * self.vb
        self.aw, self.ab = decay * self.aw + (1 - decay) * self.w, decay * self.ab + (1 - decay) * self.b


def run(options, batches=BATCHES, mode=ms.GRAPH_MODE, step=None, first=0):
    ms.set_context(mode=mode)
    step = step or TrainStep(Linear(), options)
    step.set_train()
    results = []
    for i, x in enumerate(batches, first):
        results.append(step.run([x], 0.1 / (i + 1), i % options.accumulate_steps, 0.8))
    ms.set_context(mode=ms.GRAPH_MODE)
    return step, results


CASES = {
    "plain": StepOptions(momentum=0.0),
    "momentum and decay": StepOptions(weight_decay=0.01),
    "decay on biases too": StepOptions(weight_decay=0.01, decay_norm_and_bias=True),
    "loss weight": StepOptions(weight_decay=0.01, loss_weight=1 / 64),
    "clip": StepOptions(clip_norm=0.5),
    "clip each": StepOptions(clip_norm_each=0.3),
    "clip each, then all": StepOptions(clip_norm_each=0.4, clip_norm=0.45, weight_decay=0.01, accumulate_steps=2),
    "average": StepOptions(ema_decay=0.8),
    "loss scale": StepOptions(loss_scale=1024.0, weight_decay=0.01, ema_decay=0.8),
    "status of the device": StepOptions(loss_scale=64.0, weight_decay=0.01, asks_for_status=True),
    "accumulation": StepOptions(accumulate_steps=4, weight_decay=0.01, clip_norm=0.5, ema_decay=0.8),
}


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_written_out_optimiser(name, mode):
    options = CASES[name]
    step, results = run(options, mode=mode)
    slow = Slow(options)
    for i, x in enumerate(BATCHES):
        slow.step(x, 0.1 / (i + 1), i % options.accumulate_steps, 0.8)
    network = step.loss_cell.network
    np.testing.assert_allclose(network.weight.asnumpy(), slow.w, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(network.bias.asnumpy(), slow.b, rtol=1e-5, atol=1e-6)
    if options.ema_decay:
        averages = step.averages()
        np.testing.assert_allclose(averages["weight"], slow.aw, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(averages["bias"], slow.ab, rtol=1e-5, atol=1e-6)
    assert all(result.is_finite for result in results)


def test_an_overflow_that_the_device_alone_has_seen_changes_nothing(monkeypatch):
    """Where numbers saturate, all of them are finite."""
    monkeypatch.setattr(train_step.amp, "all_finite", lambda tensors: Tensor(False))
    for asks in (True, False):
        options = StepOptions(loss_scale=8.0, dynamic_loss_scale=True, asks_for_status=asks)
        step, results = run(options, BATCHES[:1], mode=ms.PYNATIVE_MODE)
        assert results[0].is_finite is not asks and float(step.scale.asnumpy()) == (4 if asks else 8)
        assert (step.loss_cell.network.weight.asnumpy() == START).all() == asks


def test_losses_are_neither_scaled_nor_weighted():
    _, results = run(StepOptions(loss_scale=4096.0, loss_weight=0.5), BATCHES[:1])
    out = BATCHES[0] @ START.T + BIAS
    assert results[0].losses[0] == pytest.approx((out**2).mean(), rel=1e-5)
    assert results[0].losses[1] == pytest.approx(0.5 * BIAS.sum(), rel=1e-5)


def test_reports_the_norm_before_clipping():
    gw, gb = numpy_gradient(START, BIAS, BATCHES[0])
    norm = np.sqrt((gw**2).sum() + (gb**2).sum())
    _, results = run(StepOptions(clip_norm=1e-3), BATCHES[:1])
    assert results[0].gradient_norm == pytest.approx(norm, rel=1e-5)


def test_an_overflow_changes_nothing_but_the_dynamic_scale():
    options = StepOptions(loss_scale=64.0, dynamic_loss_scale=True, scale_window=2, ema_decay=0.8, weight_decay=0.01)
    step, _ = run(options, BATCHES[:1])
    weight, velocity, average = (
        step.loss_cell.network.weight.asnumpy().copy(), step.velocity.asnumpy().copy(), step.average.asnumpy().copy(),
    )  # fmt: skip
    broken = BATCHES[1].copy()
    broken[0, 0] = np.inf
    _, (result,) = run(options, [broken], step=step)
    assert not result.is_finite and result.scale == 64.0
    np.testing.assert_array_equal(step.loss_cell.network.weight.asnumpy(), weight)
    np.testing.assert_array_equal(step.velocity.asnumpy(), velocity)
    np.testing.assert_array_equal(step.average.asnumpy(), average)
    _, results = run(options, BATCHES[:3], step=step)
    assert [result.scale for result in results] == [32.0, 32.0, 64.0]


def everything(step):
    """All that a step may change, by name."""
    network = {p.name: p.asnumpy().copy() for p in step.loss_cell.network.get_parameters()}
    return {**network, **step.state(), **{f"average of {name}": value for name, value in step.averages().items()}}


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
@pytest.mark.parametrize("broken", [np.inf, np.nan, 1e30], ids=str)
@pytest.mark.parametrize("steps", [1, 2])
def test_a_skipped_step_changes_nothing_at_all(broken, steps, mode):
    """Neither what the forward pass writes itself. (The variance of 1e30 overflows, the loss and gradient do not; the
    buffer of a window is begun anew.)"""
    options = StepOptions(ema_decay=0.8, weight_decay=0.01, accumulate_steps=steps)
    ms.set_context(mode=mode)
    step, _ = run(options, BATCHES[:2], mode, TrainStep(Normalised(), options))
    before = everything(step)
    assert np.isfinite(before["1.moving_mean"]).all() and before["1.moving_mean"].any() and before["largest"] > 0
    batch = BATCHES[2].copy()
    batch[0, 0] = broken
    _, (result,) = run(options, [batch], mode, step)
    assert not result.is_finite
    after = everything(step)
    assert after["scaler.skips"] == 1
    for name, value in before.items():
        if not name.startswith(("scaler.window_ok", "scaler.skips", "buffer")):
            np.testing.assert_array_equal(after[name], value, err_msg=name)
    # A good step does.
    run(options, BATCHES[2 : 2 + steps], mode, step)
    after = everything(step)
    for name in ("0.weight", "1.gamma", "1.moving_mean", "velocity.0.weight", "average of 1.moving_variance"):
        assert not np.array_equal(after[name], before[name]), name


def test_the_norm_of_a_gradient_that_is_not_finite_is_reported():
    options = StepOptions(loss_scale=8.0, dynamic_loss_scale=True, accumulate_steps=2)
    broken = BATCHES[0].copy()
    broken[0, 0] = np.inf
    _, (bad, good) = run(options, [broken, BATCHES[1]])
    assert not bad.is_finite and not np.isfinite(bad.gradient_norm) and np.isfinite(good.gradient_norm)


@pytest.mark.parametrize("position", range(4))
def test_an_overflow_discards_its_whole_window_and_no_other(position):
    options = CASES["accumulation"]
    broken = BATCHES.copy()
    broken[position, 0, 0] = np.nan
    step, _ = run(options, broken)
    slow = Slow(options)
    for i, x in enumerate(broken):
        slow.step(x, 0.1 / (i + 1), i % 4, 0.8)
    np.testing.assert_allclose(step.loss_cell.network.weight.asnumpy(), slow.w, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(step.loss_cell.network.weight.asnumpy(), START)


def test_state_continues_bit_for_bit():
    options = CASES["accumulation"]
    whole, _ = run(options)
    half, _ = run(options, BATCHES[:3])
    other = TrainStep(Linear(), options)
    for mine, theirs in zip(other.averaged, half.averaged, strict=True):
        mine.set_data(theirs)
    other.load_state(half.state())
    other.load_averages(half.averages())
    run(options, BATCHES[3:], step=other, first=3)
    for name, value in whole.state().items():
        np.testing.assert_array_equal(other.state()[name], value, err_msg=name)
    np.testing.assert_array_equal(other.averages()["weight"], whole.averages()["weight"])
    np.testing.assert_array_equal(other.loss_cell.network.weight.asnumpy(), whole.loss_cell.network.weight.asnumpy())


def test_foreign_state_is_refused():
    step = TrainStep(Linear(), StepOptions())
    state = step.state()
    with pytest.raises(KeyError):
        step.load_state({name: v for name, v in state.items() if not name.startswith("velocity")})
    state["velocity.weight"] = np.zeros((4, 3), np.float32)
    with pytest.raises(ValueError, match="weight"):
        step.load_state(state)


class Mean(nn.Cell):
    """Two ranks, of which the other gives zeros, or the same as this one."""

    def __init__(self, is_other_same):
        super().__init__()
        self.share = 1.0 if is_other_same else 0.5

    def construct(self, vector):
        return vector * self.share


def test_buckets_are_runs_of_tensors_and_leave_the_rest_over(monkeypatch):
    monkeypatch.setattr(over_ranks, "_BUCKET_SIZE", 10)
    assert over_ranks.buckets([4, 6, 3, 20, 9, 0]) == ((0, 2), (2, 4))
    assert over_ranks.buckets([]) == ()


@pytest.mark.parametrize("size", [1, 100])
def test_several_ranks_with_the_same_batch_are_as_one(monkeypatch, size):
    monkeypatch.setattr(over_ranks, "_BUCKET_SIZE", size)
    options = StepOptions(weight_decay=0.01, clip_norm=0.5, loss_scale=8.0)
    alone, one = run(options)
    step, two = run(options, step=TrainStep(Linear(), options, Mean(is_other_same=True)))
    assert len(step.over_ranks.buckets) == (size == 1)
    for name, value in everything(alone).items():
        np.testing.assert_array_equal(everything(step)[name], value, err_msg=name)
    assert one == two


def test_what_ranks_tell_each_other():
    """The mean of the losses; whether any was not finite, or was asked to stop."""
    step = TrainStep(Linear(), StepOptions(), Mean(is_other_same=False)).set_train()
    numbers = step.launch([BATCHES[0]], 0.1, stop=True).read()
    np.testing.assert_allclose(numbers.losses, np.float32(numbers.own_losses) / 2)
    assert not numbers.is_finite and numbers.is_stop_asked
    assert not step.run([BATCHES[0]], 0.1).is_stop_asked
    np.testing.assert_array_equal(step.loss_cell.network.weight.asnumpy(), START)


def test_after_too_many_overflows_nothing_is_changed_any_more():
    """A host that reads a step late has launched another one when it learns of the last overflow."""
    options = StepOptions(most_skips=2, loss_scale=2.0)
    broken = np.full_like(BATCHES[:1], np.nan)
    step, results = run(options, np.concatenate((broken, BATCHES[1:2], broken, broken, BATCHES[2:4])))
    assert [result.is_finite for result in results] == [False, True, False, False, True, True]
    after = step.loss_cell.network.weight.asnumpy()
    alike, _ = run(options, np.concatenate((broken, BATCHES[1:2])))
    np.testing.assert_array_equal(after, alike.loss_cell.network.weight.asnumpy())
    assert not np.array_equal(after, START)


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
@pytest.mark.parametrize("pixels", [2, 20], ids=["few", "many"])
def test_told_statistics_equal_those_that_a_batch_norm_keeps(mode, pixels):
    """Also where they are averaged, and where a step is left out."""
    options = StepOptions(ema_decay=0.8, weight_decay=0.01)
    batches = np.random.default_rng(0).standard_normal((5, 3, 2, pixels, pixels)).astype(np.float32)
    batches[2, 0, 0, 0, 0] = np.inf
    states = []
    # A large eps shows where it is forgotten; with few pixels it must be small, see `TellStatistics`.
    eps = 0.5 if pixels == 20 else 1e-3
    for is_told in (False, True):
        step, results = run(options, batches, mode, TrainStep(Convolved(is_told, eps=eps), options))
        assert [result.is_finite for result in results] == [True, True, False, True, True]
        step.pour_statistics()
        states.append(everything(step))
    assert len(step.told.parameters) == 4
    kept, told = states
    assert kept.keys() == told.keys()
    for name, value in kept.items():
        np.testing.assert_allclose(told[name], value, rtol=2e-3 if pixels == 20 else 2e-4, atol=1e-5, err_msg=name)
    assert not np.allclose(told["1.moving_mean"], 0) and not np.allclose(told["3.moving_variance"], 1)


def test_told_statistics_start_from_those_of_the_network():
    options = StepOptions()
    step = TrainStep(Convolved(is_told=True), options)
    step.loss_cell.network[1].moving_mean.set_data(Tensor(np.float32([1, 2, 3])))
    step.take_statistics()
    step.loss_cell.network[1].moving_mean.set_data(Tensor(np.float32([0, 0, 0])))
    step.pour_statistics()
    assert step.loss_cell.network[1].moving_mean.asnumpy().tolist() == [1, 2, 3]


def test_a_frozen_batch_norm_tells_nothing():
    assert len(TrainStep(Convolved(is_told=True, frozen=True), StepOptions()).told.parameters) == 0


def test_a_step_that_is_built_anew_goes_on_with_told_statistics():
    options = StepOptions(momentum=0.5)
    batches = np.random.default_rng(0).standard_normal((4, 3, 2, 2, 2)).astype(np.float32)
    whole, _ = run(options, batches, step=TrainStep(Convolved(is_told=True), options))
    half, _ = run(options, batches[:2], step=TrainStep(Convolved(is_told=True), options))
    other, _ = run(options, batches[2:], step=rebuilt(half), first=2)
    for step in (whole, other):
        step.pour_statistics()
    for name, value in everything(whole).items():
        np.testing.assert_array_equal(everything(other)[name], value, err_msg=name)
