"""The training step of a linear network against a float64 numpy reference."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from msdet.training import step as train_step
from msdet.training.step import StepOptions, TrainStep
from tests.training.linear import BATCHES, BIAS, START, Linear, everything, run


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
    """The same optimizer in float64, tensor by tensor."""

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
    "status of the device": StepOptions(loss_scale=64.0, weight_decay=0.01, checks_status=True),
    "accumulation": StepOptions(accumulate_steps=4, weight_decay=0.01, clip_norm=0.5, ema_decay=0.8),
}


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
@pytest.mark.parametrize("name", CASES)
def test_a_step_equals_its_float64_reference(name, mode):
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


def test_an_overflow_reported_only_by_the_device_skips_the_step(monkeypatch):
    """On a chip that saturates, all values stay finite."""
    monkeypatch.setattr(train_step.amp, "all_finite", lambda tensors: Tensor(False))
    for asks in (True, False):
        options = StepOptions(loss_scale=8.0, dynamic_loss_scale=True, checks_status=asks)
        step, results = run(options, BATCHES[:1], mode=ms.PYNATIVE_MODE)
        assert results[0].is_finite is not asks and float(step.scale.asnumpy()) == (4 if asks else 8)
        assert (step.loss_cell.network.weight.asnumpy() == START).all() == asks


def test_losses_are_neither_scaled_nor_weighted():
    _, results = run(StepOptions(loss_scale=4096.0, loss_weight=0.5), BATCHES[:1])
    out = BATCHES[0] @ START.T + BIAS
    assert results[0].losses[0] == pytest.approx((out**2).mean(), rel=1e-5)
    assert results[0].losses[1] == pytest.approx(0.5 * BIAS.sum(), rel=1e-5)


def test_the_reported_norm_is_that_before_clipping():
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
    non_finite = BATCHES[1].copy()
    non_finite[0, 0] = np.inf
    _, (result,) = run(options, [non_finite], step=step)
    assert not result.is_finite and result.scale == 64.0
    np.testing.assert_array_equal(step.loss_cell.network.weight.asnumpy(), weight)
    np.testing.assert_array_equal(step.velocity.asnumpy(), velocity)
    np.testing.assert_array_equal(step.average.asnumpy(), average)
    _, results = run(options, BATCHES[:3], step=step)
    assert [result.scale for result in results] == [32.0, 32.0, 64.0]


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
@pytest.mark.parametrize("non_finite", [np.inf, np.nan, 1e30], ids=str)
@pytest.mark.parametrize("steps", [1, 2])
def test_a_skipped_step_changes_nothing_at_all(non_finite, steps, mode):
    """Not even values written by the forward pass. (At 1e30 the variance overflows, loss and gradient do not; the
    accumulation buffer is reset.)"""
    options = StepOptions(ema_decay=0.8, weight_decay=0.01, accumulate_steps=steps)
    ms.set_context(mode=mode)
    step, _ = run(options, BATCHES[:2], mode, TrainStep(Normalised(), options))
    before = everything(step)
    assert np.isfinite(before["1.moving_mean"]).all() and before["1.moving_mean"].any() and before["largest"] > 0
    batch = BATCHES[2].copy()
    batch[0, 0] = non_finite
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
    non_finite = BATCHES[0].copy()
    non_finite[0, 0] = np.inf
    _, (bad, good) = run(options, [non_finite, BATCHES[1]])
    assert not bad.is_finite and not np.isfinite(bad.gradient_norm) and np.isfinite(good.gradient_norm)


@pytest.mark.parametrize("position", range(4))
def test_an_overflow_discards_its_whole_window_and_no_other(position):
    options = CASES["accumulation"]
    non_finite = BATCHES.copy()
    non_finite[position, 0, 0] = np.nan
    step, _ = run(options, non_finite)
    slow = Slow(options)
    for i, x in enumerate(non_finite):
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


def test_an_incompatible_state_is_refused():
    step = TrainStep(Linear(), StepOptions())
    state = step.state()
    with pytest.raises(KeyError):
        step.load_state({name: v for name, v in state.items() if not name.startswith("velocity")})
    state["velocity.weight"] = np.zeros((4, 3), np.float32)
    with pytest.raises(ValueError, match="weight"):
        step.load_state(state)


def test_after_max_skips_overflows_no_step_changes_anything():
    """A host that reads results one step late has launched another step when it reads the last overflow."""
    options = StepOptions(max_skips=2, loss_scale=2.0)
    non_finite = np.full_like(BATCHES[:1], np.nan)
    step, results = run(options, np.concatenate((non_finite, BATCHES[1:2], non_finite, non_finite, BATCHES[2:4])))
    assert [result.is_finite for result in results] == [False, True, False, False, True, True]
    after = step.loss_cell.network.weight.asnumpy()
    reference, _ = run(options, np.concatenate((non_finite, BATCHES[1:2])))
    np.testing.assert_array_equal(after, reference.loss_cell.network.weight.asnumpy())
    assert not np.array_equal(after, START)
