"""Losses and gradients of every model in half precision against float32, with large activations and black pixels."""

from dataclasses import replace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, amp, nn, ops

from msdet.config import load_config
from msdet.layers.conv import Float32Cell, SpatialMean
from msdet.models.efficientdet_d0.bifpn import WeightedMean
from msdet.models.efficientdet_d0.efficientnet import Gate
from msdet.models.recipe import get_recipe
from msdet.training.initial_weights import freeze_batch_norm
from msdet.training.step import LossCell
from tests.narrow import narrow_networks

pytestmark = pytest.mark.usefixtures("at_root")

NETWORKS = {name: network for name, network in narrow_networks().items() if name != "yolov3_quant"}
NETWORKS["yolov4 mish_tanh"] = replace(NETWORKS["yolov4"], flags=(*NETWORKS["yolov4"].flags, "--activation=mish_tanh"))


def batch(side, task):
    """A batch of two images, one of them half black, with its targets."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, side, side, 3)).astype(np.uint8)
    images[1, : side // 2] = 0
    arrays = [images, np.int32([[side, side]] * 2)]
    if task == "classify":
        return [Tensor(a) for a in (*arrays, np.int32([0, 2]))]
    corner = rng.uniform(0, side / 2, (2, 4, 2))
    boxes = np.concatenate((corner, corner + rng.uniform(4, side / 2, (2, 4, 2))), 2).astype(np.float32)
    labels = np.int32([[0, 1, 2, -1], [1, 0, -1, -1]])
    boxes[labels < 0] = 0
    return [Tensor(a) for a in (*arrays, boxes, labels, np.float32([side, side]))]


def losses_and_gradients(model, level, gain):
    narrow = NETWORKS[model]
    sizes = [f"--training_shape={narrow.size}", f"--testing_shape={narrow.size}"]
    ms.set_seed(0)
    cfg = load_config(f"configs/{narrow.config}.yaml", [*narrow.flags, "--class_names=", *sizes])
    recipe = get_recipe(cfg.replace(num_classes=3))
    network = recipe.build_network()
    rng = np.random.default_rng(0)
    for p in network.get_parameters():
        if p.name.endswith("beta"):
            # Otherwise activations vanish, and are exactly 0 in float16 but not in float32.
            p.set_data(Tensor(rng.normal(0, 0.5, p.shape).astype(np.float32)))
        # The first convolution alone has three input channels.
        if p.name.endswith("weight") and p.ndim == 4 and p.shape[1] == 3:
            p.set_data(p * gain)
    network.set_train()
    # Batch statistics over the few pixels of a tiny map would amplify rounding errors.
    freeze_batch_norm(network)
    network = amp.auto_mixed_precision(network, level)
    cell = LossCell(recipe.build_preprocess(), network, recipe.build_criterion())
    run = ms.value_and_grad(cell, None, cell.trainable_params(), has_aux=True)
    (_, losses), gradients = run(*batch(narrow.size, recipe.task))
    return np.array([float(loss) for loss in losses]), [g.asnumpy().astype(np.float64) for g in gradients]


# With the first kernel a hundred times larger, activations reach several hundred.
@pytest.mark.parametrize(("gain", "level"), [(100.0, "O2"), pytest.param(1.0, "O3", marks=pytest.mark.slow)])
@pytest.mark.parametrize("model", NETWORKS)
def test_half_precision_losses_are_close_to_float32(uncompiled, model, gain, level):
    expected, gradients = losses_and_gradients(model, "O0", gain)
    losses, half = losses_and_gradients(model, level, gain)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(losses, expected, rtol=0.05)
    assert all(np.isfinite(g).all() for g in gradients) and all(np.isfinite(g).all() for g in half)
    difference = sum(((one - other) ** 2).sum() for one, other in zip(half, gradients, strict=True))
    assert np.sqrt(difference / sum((g**2).sum() for g in gradients)) < 0.2


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
@pytest.mark.parametrize("training", [False, True])
def test_means_over_large_maps_do_not_overflow(training, mode):
    """Their sum is 1.2 million, beyond the range of half precision."""
    x = np.random.default_rng(0).uniform(250, 350, (1, 2, 64, 64)).astype(np.float16)
    ms.set_context(mode=mode)
    for keep_dims in (False, True):
        cell = amp.auto_mixed_precision(nn.SequentialCell(SpatialMean(keep_dims)).set_train(training), "O3")
        means = cell.set_train(training)(Tensor(x)).asnumpy()
        assert means.shape == ((1, 2, 1, 1) if keep_dims else (1, 2))
        np.testing.assert_allclose(means.ravel(), x.astype(np.float64).mean((2, 3)).ravel(), rtol=1e-3)


@pytest.mark.parametrize("cell", [WeightedMean(), Gate()])
def test_gradients_summed_over_large_maps_do_not_overflow(uncompiled, cell):
    """They are sums over the map: 64 * 64 * 300."""
    x = Tensor(np.full((1, 2, 64, 64), 300, np.float16))
    cell = amp.auto_mixed_precision(cell.set_train(), "O3")

    def loss(factor):
        out = cell(factor, (x, 0 * x)) if factor.ndim == 1 else cell(x, factor)
        return ops.reduce_sum(ops.cast(out, ms.float32))

    factor = np.ones(2, np.float32) if isinstance(cell._backbone, WeightedMean) else np.zeros((1, 2, 1, 1), np.float32)
    gradient = ms.grad(loss)(Tensor(factor)).asnumpy()
    total = 64 * 64 * 300
    expected = total * np.array([1, -1]) / 2 if factor.ndim == 1 else total / 4
    np.testing.assert_allclose(gradient, np.broadcast_to(expected, factor.shape), rtol=1e-2)


@pytest.mark.parametrize("level", ["O2", "O3"])
def test_mixed_precision_keeps_float32_cells(level):
    network = amp.auto_mixed_precision(nn.SequentialCell(SpatialMean(), nn.ReLU()), level)
    cells = [cell for _, cell in network.cells_and_names() if isinstance(cell, Float32Cell)]
    assert cells and all(cell.fp32 and not cell.fp16 for cell in cells)
