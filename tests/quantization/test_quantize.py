"""Quantization-aware networks: which layers are replaced, which stay, and batch norm against numpy."""

from dataclasses import dataclass

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from msdet.layers.conv import ConvBnAct
from msdet.models.darknet53.network import BACKBONES, Classifier, CspDarkNet53, DarkNet53
from msdet.models.yolov3_quant.network import YoloV3
from msdet.models.yolov4.network import YoloV4
from msdet.quantization.fake_quant import FakeQuant, FakeQuantLeaky, WeightQuant
from msdet.quantization.quantize import (
    FakeQuantActivation,
    FakeQuantConv,
    calibrating,
    enable_fake_quant,
    fake_quants,
    mark_grids,
    quantize,
    store_int8,
)

TINY = {"channels": (4, 4, 8, 8, 8, 16), "layers": (1, 1, 1, 1, 1)}


@dataclass(frozen=True)
class Settings:
    quant_bits: tuple[int, int] = (8, 8)
    per_channel: tuple[bool, bool] = (True, False)
    symmetric: tuple[bool, bool] = (True, False)
    observer_decay: float = 0.9


@pytest.fixture(autouse=True)
def _mode():
    # Saves compiling; the cells themselves are tested in both modes in test_fake_quant.py.
    ms.set_context(mode=ms.PYNATIVE_MODE)
    yield
    ms.set_context(mode=ms.GRAPH_MODE)


def yolov3(activation="leaky"):
    ms.set_seed(1)
    return YoloV3(DarkNet53(**TINY, activation=activation), 2)


def yolov4():
    return YoloV4(CspDarkNet53(**TINY, activation="mish"), 2)


def classifier():
    return Classifier(BACKBONES["darknet53"](**TINY, activation="relu"), 5)


def images(count=2):
    return Tensor(np.random.default_rng(0).standard_normal((count, 3, 64, 64)).astype(np.float32))


def calibrated(network):
    with calibrating(network) as divide:
        network(images())
        divide(1)
    network.set_train(False)
    return network


# joins: additions and concatenations.
@pytest.mark.parametrize(
    ("build", "convolutions", "joins"), [(yolov3, 39, 5 + 2), (yolov4, 74, 5 + 5 + 4), (classifier, 16, 5)]
)
def test_every_convolution_activation_and_join_is_quantized(build, convolutions, joins):
    network = build()
    names = [p.name for p in network.get_parameters()]
    blocks = sum(isinstance(cell, ConvBnAct) for _, cell in network.cells_and_names())
    total = sum(isinstance(cell, nn.Conv2d) for _, cell in network.cells_and_names())
    trainable = {p.name for p in network.trainable_params()}
    quantize(network, Settings())
    cells = [cell for _, cell in network.cells_and_names()]
    assert sum(isinstance(cell, FakeQuantConv) for cell in cells) == total
    assert not any(isinstance(cell, nn.Conv2d) for cell in cells)
    activations = [c for c in cells if isinstance(c, FakeQuantLeaky | FakeQuantActivation)]
    assert len(activations) == blocks
    before = sum(isinstance(cell, FakeQuantActivation) and cell.has_before for cell in cells)
    assert len(list(fake_quants(network))) == blocks + before + joins + 1
    assert total == convolutions
    # Names and their order stay; ranges are added, without gradient.
    now = [p.name for p in network.get_parameters()]
    assert [name for name in now if ".observer." not in name] == names
    assert {p.name for p in network.trainable_params()} == trainable
    assert len(set(now)) == len(now)


def test_a_network_without_blocks_is_rejected():
    with pytest.raises(ValueError, match="has no ConvBnAct"):
        quantize(nn.SequentialCell(nn.Conv2d(3, 3, 1)), Settings())


@pytest.mark.parametrize("build", [yolov3, yolov4, classifier])
def test_outputs_are_close_to_those_in_float(build):
    network = build().set_train(False)
    for cell in (cell for _, cell in network.cells_and_names() if isinstance(cell, nn.Conv2d)):
        # With the default initialisation the image hardly affects the output of so many layers.
        gain = np.sqrt(2 / np.prod(cell.weight.shape[1:]))
        weight = np.random.default_rng(1).standard_normal(cell.weight.shape) * gain
        cell.weight.set_data(Tensor(weight.astype(np.float32)))
    expected = network(images())
    calibrated(quantize(network, Settings()))
    outputs = network(images())
    pairs = zip(*[(x,) if isinstance(x, Tensor) else x for x in (expected, outputs)], strict=True)
    for mine, other in pairs:
        error = np.linalg.norm(mine.asnumpy() - other.asnumpy()) / np.linalg.norm(mine.asnumpy())
        assert 0 < error < 0.2
    # Heads are not quantized.
    enable_fake_quant(network, weights=False, activations=False)
    plain = network(images())
    first = (plain if isinstance(plain, Tensor) else plain[0]).asnumpy()
    reference = (expected if isinstance(expected, Tensor) else expected[0]).asnumpy()
    np.testing.assert_allclose(first, reference, rtol=1e-3, atol=1e-4)


def test_all_weights_have_a_gradient():
    network = quantize(yolov3(), Settings())
    network.set_train()

    def loss(x):
        return sum(out.square().mean() for out in network(x))

    _, gradients = ms.value_and_grad(loss, None, network.trainable_params())(images())
    for parameter, gradient in zip(network.trainable_params(), gradients, strict=True):
        assert np.isfinite(gradient.asnumpy()).all(), parameter.name
        assert np.abs(gradient.asnumpy()).max() > 0, parameter.name


def test_the_kernel_is_rounded_as_folded_with_batch_norm():
    rng = np.random.default_rng(2)
    block = ConvBnAct(3, 4, 3)
    gamma, variance = np.float32([1.5, -0.7, 0.0, 2.0]), rng.uniform(0.5, 2, 4).astype(np.float32)
    block.bn.gamma.set_data(Tensor(gamma))
    block.bn.moving_variance.set_data(Tensor(variance))
    gain = gamma / np.sqrt(variance + 1e-5)
    gain = np.where(np.abs(gain) < 1e-6, 1e-6, gain).reshape(-1, 1, 1, 1)
    weight = block.conv.weight.asnumpy()
    folded = weight * gain
    scale = np.abs(folded).max() / 127
    expected = np.rint(folded / scale) * scale / gain
    conv = FakeQuantConv(block.conv, WeightQuant(per_channel=False), block.bn, None)
    np.testing.assert_allclose(conv.kernel().asnumpy()[[0, 1, 3]], expected[[0, 1, 3]], atol=1e-5)
    # With one scale per channel the factor cancels: rounding before and after folding are the same.
    apart = (WeightQuant()(Tensor(folded.astype(np.float32))).asnumpy() / gain)[[0, 1, 3]]
    same = WeightQuant()(Tensor(weight)).asnumpy()[[0, 1, 3]]
    np.testing.assert_allclose(apart, same, atol=np.abs(weight).max() * 1e-5)


def test_batch_norm_uses_the_statistics_of_the_batch():
    """With one convolution: running statistics do not take part in the normalisation."""
    network = quantize(nn.SequentialCell(ConvBnAct(3, 4, 3), ConvBnAct(4, 4, 1)), Settings())
    enable_fake_quant(network, weights=True, activations=False)
    network.set_train()
    block = network[0]
    out = block.bn(block.conv(images())).asnumpy()
    np.testing.assert_allclose(out.mean((0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(out.std((0, 2, 3)), 1, atol=1e-3)


def test_int8_kernels_compute_the_same():
    network = calibrated(quantize(yolov3(), Settings()))
    expected = [out.asnumpy() for out in network(images())]
    weights = {p.name: p.asnumpy() for p in network.get_parameters()}
    store_int8(network)
    for mine, other in zip(expected, network(images()), strict=True):
        np.testing.assert_allclose(other.asnumpy(), mine, rtol=1e-5, atol=1e-6)
    codes = [p for p in network.get_parameters() if p.name.endswith(".codes")]
    assert len(codes) == 39
    assert all(p.dtype == ms.int8 for p in codes)
    assert not any(name.endswith("conv.weight") for name in (p.name for p in network.get_parameters()))
    assert sum(p.size for p in codes) == sum(v.size for n, v in weights.items() if n.endswith(".weight"))
    with pytest.raises(ValueError, match="symmetric weights"):
        store_int8(quantize(yolov3(), Settings(per_channel=(False, False))))


def test_calibration_restores_the_state_of_the_network():
    network = quantize(yolov3(), Settings()).set_train()
    statistics = network.backbone.stem.bn.moving_mean.asnumpy()
    with calibrating(network) as divide:
        for _ in range(2):
            network(images())
        divide(2)
    assert network.training
    assert all(cell.is_active and not cell.observer.is_calibrating for cell in fake_quants(network))
    np.testing.assert_array_equal(network.backbone.stem.bn.moving_mean.asnumpy(), statistics)
    observer = network.backbone.stem.conv.inputs.observer
    x = images().asnumpy().reshape(2, -1)
    np.testing.assert_allclose(observer.low.asnumpy(), x.min(1).mean(), rtol=1e-5)
    np.testing.assert_allclose(observer.high.asnumpy(), x.max(1).mean(), rtol=1e-5)


def test_marked_networks_clip_instead_of_rounding():
    network = calibrated(quantize(yolov3(), Settings()))
    rounded = network(images())[0].asnumpy()
    grids = mark_grids(network)
    # Two per LeakyReLU, one for the input and for each join.
    assert len(grids) == 2 * 36 + 7 + 1
    assert all(scale > 0 and 0 <= zero <= 255 for scale, zero in grids)
    clipped = network(images())[0].asnumpy()
    assert 0 < np.linalg.norm(clipped - rounded) / np.linalg.norm(rounded) < 0.1


def test_observers_of_one_sided_activations():
    network = calibrated(quantize(classifier(), Settings()))
    relu = next(cell for _, cell in network.cells_and_names() if isinstance(cell, FakeQuantActivation))
    assert not relu.has_before
    assert relu.after.observer.low.asnumpy().item() == 0
    assert relu.after.grids()[0][1] == 0
    assert isinstance(relu.after, FakeQuant)
