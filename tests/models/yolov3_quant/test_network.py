"""The network of YOLOv3: number of parameters, parity with darknet, golden values, gradients."""

import struct

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from msdet.layers.conv import ConvBnAct
from msdet.models.darknet53.network import DarkNet53
from msdet.models.yolov3_quant.network import YoloV3

TINY = {"channels": (4, 8, 8, 16, 16, 32), "layers": (1, 1, 1, 1, 1)}


def tiny(classes=3, **conv):
    ms.set_seed(0)
    return YoloV3(DarkNet53(**TINY, **conv), classes)


def layers_in_darknet_order(network):
    """All convolutions in the order of darknet: backbone, then head and lateral layer for each stride."""
    parts = [network.backbone, network.block32, network.lateral16, network.block16, network.lateral8, network.block8]
    for part in parts:
        for _, cell in part.cells_and_names():
            if isinstance(cell, ConvBnAct) or (isinstance(cell, nn.Conv2d) and cell.has_bias):
                yield cell


def fill_from_darknet(network, path):
    """Reference reader of darknet .weights files."""
    data = path.read_bytes()
    assert struct.unpack_from("<iii", data) == (0, 2, 5)
    values = np.frombuffer(data, np.float32, offset=20)
    at = 0

    def take(parameter):
        nonlocal at
        parameter.set_data(Tensor(values[at : at + parameter.size].reshape(parameter.shape).copy()))
        at += parameter.size

    for layer in layers_in_darknet_order(network):
        if isinstance(layer, nn.Conv2d):
            take(layer.bias)
            take(layer.weight)
        else:
            for parameter in (layer.bn.beta, layer.bn.gamma, layer.bn.moving_mean, layer.bn.moving_variance):
                take(parameter)
            take(layer.conv.weight)
    assert at == len(values)


def test_parity_with_darknet(parity, parity_dir, tmp_path):
    npz = parity_dir / "yolov3.npz"
    parity.darknet_weights(npz, tmp_path / "w.weights")
    network = YoloV3(DarkNet53(activation="leaky"), 80)
    assert sum(p.size for p in network.trainable_params()) == 61_949_149
    fill_from_darknet(network, tmp_path / "w.weights")
    network.set_train(False)
    reference = np.load(npz)
    for i, raw in enumerate(network(Tensor(parity.darknet_input(npz)))):
        expected = reference[f"head{i}"]
        assert raw.shape == expected.shape
        assert np.linalg.norm(raw.asnumpy() - expected) <= 1e-3 * np.linalg.norm(expected)


@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
def test_shapes_and_strides(size):
    network = tiny().set_train(False)
    maps = network(Tensor(np.zeros((2, 3, *size), np.float32)))
    assert [m.shape for m in maps] == [(2, 24, size[0] // s, size[1] // s) for s in (32, 16, 8)]


def golden_values():
    """64 values of each raw map, compared with tests/golden to detect changes of the network."""
    network = tiny(activation="leaky").set_train(False)
    rng = np.random.default_rng(0)
    for p in network.get_parameters():
        scale = 0.3 if p.name.endswith("weight") else 0.1
        value = rng.standard_normal(p.shape) * scale
        if p.name.endswith(("gamma", "moving_variance")):
            value = 1 + np.abs(value)
        p.set_data(Tensor(value.astype(np.float32)))
    image = rng.standard_normal((1, 3, 64, 64)).astype(np.float32)
    maps = [m.asnumpy().ravel() for m in network(Tensor(image))]
    return np.stack([m[:: max(1, len(m) // 64)][:64] for m in maps])


def test_golden_values(golden_dir):
    values = golden_values()
    expected = np.load(golden_dir / "yolov3_tiny.npy")
    assert values.shape == (3, 64)
    np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
def test_gradient_of_a_tiny_network(mode):
    """Finite difference along the gradient, all weights, float32, in training mode (batch statistics)."""
    from msdet.models.yolov3_quant.loss import YoloV3Criterion

    anchors = [(10, 13), (16, 30), (33, 23), (30, 61), (62, 45), (59, 119), (116, 90), (156, 198), (373, 326)]
    ms.set_context(mode=mode)
    network = tiny()
    criterion = YoloV3Criterion(anchors, 3)
    rng = np.random.default_rng(0)
    image = Tensor(rng.standard_normal((2, 3, 64, 64)).astype(np.float32))
    boxes = Tensor(np.float32([[[5, 6, 30, 40], [20, 10, 60, 50]], [[3, 3, 20, 14], [0, 0, 0, 0]]]))
    labels = Tensor(np.int32([[0, 2], [1, -1]]))
    size = Tensor(np.float32([64, 64]))
    network.set_train()

    def loss(x):
        losses = criterion(network(x), boxes, labels, size)
        return losses[0] + losses[1] + losses[2] + losses[3]

    weights = ms.ParameterTuple(network.trainable_params())
    gradients = ms.value_and_grad(loss, None, weights)(image)[1]
    ms.set_context(mode=ms.PYNATIVE_MODE)
    # Along the gradient itself, where the slope is large compared with the rounding errors of a float32 loss.
    norm = np.sqrt(sum(float((g.asnumpy().astype(np.float64) ** 2).sum()) for g in gradients))
    directions = [g.asnumpy() / norm for g in gradients]
    analytic = sum(
        float((g.asnumpy().astype(np.float64) * d).sum()) for g, d in zip(gradients, directions, strict=True)
    )
    start = [p.asnumpy().copy() for p in weights]
    step, values = 1e-5, []
    for sign in (1, -1):
        for p, value, d in zip(weights, start, directions, strict=True):
            p.set_data(Tensor(value + sign * step * d))
        values.append(float(loss(image)))
    ms.set_context(mode=ms.GRAPH_MODE)
    numeric = (values[0] - values[1]) / (2 * step)
    assert abs(numeric - analytic) <= 1e-2 * max(abs(numeric), 1)


def test_the_compiler_logs_no_warning(graph_mode, capfd):
    """It used to warn of a lost side effect, for the unused map of the last head."""
    tiny().set_train()(Tensor(np.zeros((1, 3, 64, 64), np.float32)))
    assert "[WARNING]" not in capfd.readouterr().err
