"""Fake quantization, its gradient and the observed ranges against numpy, including edge cases."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from msdet.layers.conv import LeakyReLU
from msdet.quantization.fake_quant import (
    MIN_RANGE,
    FakeQuant,
    FakeQuantLeaky,
    RangeObserver,
    SnapLeakyToGrid,
    SnapToGrid,
    WeightQuant,
    grid_limits,
)

RNG = np.random.default_rng(3)
RANDOM = RNG.standard_normal((2, 3, 5, 7)).astype(np.float32)
OUTLIER = RANDOM.copy()
OUTLIER[0, 0, 0, 0] = 1e4
CONSTANT = RANDOM.copy()
CONSTANT[:, 1] = 0.75
TENSORS = {
    "random": RANDOM,
    "zeros": np.zeros_like(RANDOM),
    "positive": np.abs(RANDOM) + 0.5,
    "negative": -np.abs(RANDOM) - 0.5,
    "outlier": OUTLIER,
    "constant channel": CONSTANT,
    "constant": np.full_like(RANDOM, -2.5),
    "tiny": RANDOM * np.float32(1e-9),
    "huge": RANDOM * np.float32(1e9),
}


@pytest.fixture(autouse=True, params=["graph", "pynative"])
def _mode(request):
    ms.set_context(mode=ms.GRAPH_MODE if request.param == "graph" else ms.PYNATIVE_MODE)
    yield
    ms.set_context(mode=ms.GRAPH_MODE)


class Weighted(nn.Cell):
    """Weighted sum of the output of a cell, to be differentiated."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def construct(self, x, factor, *args):
        return (self.cell(x, *args) * factor).sum()


def gradient(cell, x, factor, *args):
    return ms.grad(Weighted(cell), 0)(Tensor(x), Tensor(factor), *args).asnumpy()


def scalar(value):
    return Tensor(np.float32([value]))


def grid_of(low, high, levels=255):
    """Scale and zero point in float64."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max(high - low, MIN_RANGE) / levels
    return scale, np.floor(-low / scale + 0.5)


def codes_of(x, scale, zero_point, levels=255):
    """Reference: codes, whether each value is clipped (over half a step outside the range), and the unrounded codes."""
    exact = x.astype(np.float64) / scale + zero_point
    return np.clip(np.rint(exact), 0, levels), (exact < -0.5) | (exact > levels + 0.5), exact


def assert_equal_but_for_ties(ours, theirs, exact, scale):
    """Halfway between two codes, float32 may round to the other one."""
    tie = np.abs(np.abs(exact - np.floor(exact)) - 0.5) < 2e-3
    difference = np.abs(ours - theirs) / scale
    assert difference[~tie].max(initial=0) < 1e-3
    assert difference.max() < 1.001
    assert tie.mean() < 0.1 or exact.std() < 1e-6


@pytest.mark.parametrize("bits", [8, 4])
def test_values_and_gradient(bits):
    cell, levels = SnapToGrid(bits), 2**bits - 1
    slope = ms.grad(Weighted(cell), 0)
    for name, x in TENSORS.items():
        scale, zero_point = grid_of(x.min(), x.max(), levels)
        codes, _, exact = codes_of(x, scale, zero_point, levels)
        out = cell(Tensor(x), scalar(scale), scalar(zero_point)).asnumpy()
        assert_equal_but_for_ties(out, (codes - zero_point) * scale, exact, scale)
        dout = RNG.standard_normal(x.shape).astype(np.float32)
        # The range covers all values: none is clipped.
        got = slope(Tensor(x), Tensor(dout), scalar(scale), scalar(zero_point)).asnumpy()
        np.testing.assert_allclose(got, dout, rtol=1e-6, err_msg=name)


def test_clipped_values_have_no_gradient():
    x = np.linspace(-3, 4, 701, dtype=np.float32)
    scale, zero_point = grid_of(-1.0, 2.0)
    codes, clipped, exact = codes_of(x, scale, zero_point)
    cell = SnapToGrid()
    out = cell(Tensor(x), scalar(scale), scalar(zero_point)).asnumpy()
    assert_equal_but_for_ties(out, (codes - zero_point) * scale, exact, scale)
    got = gradient(cell, x, np.ones_like(x), scalar(scale), scalar(zero_point))
    np.testing.assert_array_equal(got, (~clipped).astype(np.float32))
    assert clipped.sum() > 300


@pytest.mark.parametrize("slope", [0.1, 0.25])
def test_leaky_relu(slope):
    x = np.linspace(-3, 4, 701, dtype=np.float32)
    scale, zero_point = grid_of(-1.0, 2.0)
    codes, clipped, exact = codes_of(x, scale, zero_point)
    first = (codes - zero_point).astype(np.float32) * np.float32(scale)
    table = np.where(first > 0, first, first * np.float32(slope)) / np.float32(scale)
    cell = SnapLeakyToGrid(slope)
    out = cell(Tensor(x), scalar(scale), scalar(zero_point)).asnumpy()
    assert_equal_but_for_ties(out, np.rint(table) * np.float32(scale), exact, scale)
    got = gradient(cell, x, np.ones_like(x), scalar(scale), scalar(zero_point))
    expected = np.where(clipped, 0, np.where(out > 0, 1, slope))
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_zero_is_on_every_grid():
    for name, x in TENSORS.items():
        scale, zero_point = grid_of(x.min(), x.max())
        zero = Tensor(np.zeros((1, 2), np.float32))
        assert not SnapToGrid()(zero, scalar(scale), scalar(zero_point)).asnumpy().any(), name


@pytest.mark.parametrize("symmetric", [False, True])
def test_ranges_are_moving_averages_over_the_first_image(symmetric):
    observer = RangeObserver(0.9, symmetric)
    observer.set_train()
    for name, x in TENSORS.items():
        check_observer(observer, name, x, symmetric)
    observer.set_train(False)
    before = observer.low.asnumpy()
    observer(Tensor(RANDOM * 100))
    assert observer.low.asnumpy() == before


def test_later_images_of_a_batch_are_not_observed():
    observer = RangeObserver(0.5).set_train()
    x = np.stack((RANDOM[0], 1000 * RANDOM[1]))
    observer(Tensor(x))
    np.testing.assert_allclose(observer.low.asnumpy(), -3 + 0.5 * RANDOM[0].min(), rtol=1e-5)
    np.testing.assert_allclose(observer.high.asnumpy(), 3 + 0.5 * RANDOM[0].max(), rtol=1e-5)


def check_observer(observer, name, x, symmetric):
    low, high = -6.0, 6.0
    observer.low.set_data(scalar(low))
    observer.high.set_data(scalar(high))
    for _ in range(3):
        scale, zero_point = observer(Tensor(x))
        low = 0.9 * low + 0.1 * min(float(x[0].min()), 0)
        high = 0.9 * high + 0.1 * max(float(x[0].max()), 0)
    np.testing.assert_allclose(observer.low.asnumpy(), low, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(observer.high.asnumpy(), high, rtol=1e-5, err_msg=name)
    if symmetric:
        low, high = -max(high, -low), max(high, -low)
    expected = grid_of(low, high)
    np.testing.assert_allclose(scale.asnumpy(), expected[0], rtol=1e-5)
    # Halfway between two codes, float32 may round to the other one.
    assert abs(zero_point.asnumpy().item() - expected[1]) <= 1


def test_calibration_accumulates_the_mean_extremes_of_all_images():
    observer = RangeObserver(0.9)
    observer.set_train(False)
    observer.is_calibrating = True
    observer.low.set_data(scalar(0))
    observer.high.set_data(scalar(0))
    batches = [RNG.standard_normal((4, 2, 3, 3)).astype(np.float32) for _ in range(2)]
    for batch in batches:
        observer(Tensor(batch))
    flat = np.concatenate([batch.reshape(4, -1) for batch in batches])
    np.testing.assert_allclose(observer.low.asnumpy() / 2, np.minimum(flat.min(1), 0).mean(), rtol=1e-5)
    np.testing.assert_allclose(observer.high.asnumpy() / 2, np.maximum(flat.max(1), 0).mean(), rtol=1e-5)


@pytest.mark.parametrize(("per_channel", "symmetric"), [(True, True), (False, True), (True, False), (False, False)])
def test_weights(per_channel, symmetric):
    cell = WeightQuant(per_channel, symmetric)
    slope = ms.grad(Weighted(cell), 0)
    for weight in TENSORS.values():
        check_weights(cell, slope, weight, per_channel, symmetric)


def check_weights(cell, slope, weight, per_channel, symmetric):
    rows = weight.reshape(len(weight) if per_channel else 1, -1).astype(np.float64)
    if symmetric:
        scale = np.maximum(np.abs(rows).max(1), MIN_RANGE / 2) / 127
        exact = rows / scale[:, None]
        expected = np.rint(exact) * scale[:, None]
    else:
        low, high = np.minimum(rows.min(1), 0), np.maximum(rows.max(1), 0)
        scale = np.maximum(high - low, MIN_RANGE) / 255
        zero_point = np.floor(-low / scale + 0.5)
        exact = rows / scale[:, None]
        expected = np.rint(exact) * scale[:, None]
        codes = np.rint(exact) + zero_point[:, None]
        # No clipping: the limits of the range are rounded to the outermost codes, or at most one beyond.
        assert codes.min() >= -1
        assert codes.max() <= 256
    out = cell(Tensor(weight)).asnumpy().reshape(rows.shape)
    assert_equal_but_for_ties(out, expected, exact, scale[:, None])
    dout = RNG.standard_normal(weight.shape).astype(np.float32)
    np.testing.assert_array_equal(slope(Tensor(weight), Tensor(dout)).asnumpy(), dout)


def test_inactive_cells_pass_values_and_observe():
    x = Tensor(RANDOM)
    plain, leaky = FakeQuant(0.5), FakeQuantLeaky(LeakyReLU(), 0.5)
    for cell in (plain, leaky):
        cell.is_active = False
        cell.set_train()
    np.testing.assert_array_equal(plain(x).asnumpy(), RANDOM)
    np.testing.assert_allclose(leaky(x).asnumpy(), np.where(RANDOM > 0, RANDOM, 0.1 * RANDOM), rtol=1e-5)
    for cell in (plain, leaky):
        np.testing.assert_allclose(cell.observer.high.asnumpy(), 3 + RANDOM[0].max() / 2, rtol=1e-5)


def test_the_range_is_observed_in_a_compiled_training_step():
    """The compiler removes updates that no result depends on."""

    class Net(nn.Cell):
        def __init__(self):
            super().__init__()
            self.weight = ms.Parameter(Tensor(np.float32(2)), name="weight")
            self.quant = FakeQuant(0.5)

        def construct(self, x):
            return self.quant(x * self.weight).sum()

    network = Net()
    network.set_train()
    step = ms.value_and_grad(network, None, network.trainable_params())
    # Halved, so that nothing exceeds the range, which is still moving.
    _, gradients = step(Tensor(RANDOM / 2))
    np.testing.assert_allclose(network.quant.observer.low.asnumpy(), -3 + RANDOM[0].min() / 2, rtol=1e-5)
    assert len(gradients) == 1
    np.testing.assert_allclose(gradients[0].asnumpy(), RANDOM.sum() / 2, rtol=1e-3)


def test_markers_are_the_limits_of_the_grids():
    cell = FakeQuantLeaky(LeakyReLU(0.1), 0.9)
    cell.observer.low.set_data(scalar(-2))
    cell.observer.high.set_data(scalar(3))
    cell.set_train(False)
    (scale, before), (same, after) = cell.mark()
    assert (scale, before, after) == (pytest.approx(5 / 255), 102, 10)
    assert same == scale
    x = np.linspace(-5, 5, 11, dtype=np.float32).reshape(1, 11)
    clipped = np.clip(x, *grid_limits(scale, before))
    expected = np.clip(np.where(clipped > 0, clipped, 0.1 * clipped), *grid_limits(scale, after))
    np.testing.assert_allclose(cell(Tensor(x)).asnumpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("is_active", [False, True])
@pytest.mark.parametrize("kind", [FakeQuant, FakeQuantLeaky])
def test_the_compiler_logs_no_warning(kind, is_active, capfd):
    """MindSpore used to warn of a lost side effect for each observer."""
    cell = kind(0.9) if kind is FakeQuant else kind(LeakyReLU(0.1), 0.9)
    cell.is_active = is_active
    network = Weighted(cell).set_train()
    weights = Tensor(np.ones_like(RANDOM))
    ms.value_and_grad(network, 0)(Tensor(RANDOM), weights)
    high = np.float32(6 * 0.9 + max(RANDOM[0].max(), 0) * (1 - 0.9))
    assert cell.observer.high.asnumpy().item() == pytest.approx(high, rel=1e-6)
    assert "[WARNING]" not in capfd.readouterr().err
