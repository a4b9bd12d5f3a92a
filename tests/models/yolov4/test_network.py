"""The network of YOLOv4: number of parameters, parity, golden values, gradients and exports."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from msdet.checkpoints.card import apply_card
from msdet.checkpoints.weights_file import fill_network, load_weights, save_tensors
from msdet.config import load_config
from msdet.importers.command import main as import_main
from msdet.models.darknet53.network import CspDarkNet53
from msdet.models.recipe import get_recipe
from msdet.models.yolov4.loss import YoloV4Criterion
from msdet.models.yolov4.network import SpatialPyramid, YoloV4

pytestmark = pytest.mark.usefixtures("graph_mode")

CONFIG = "configs/yolov4.yaml"
TINY = {"channels": (4, 8, 8, 16, 16, 32), "layers": (1, 1, 1, 1, 1)}


def tiny(classes=3, **conv):
    ms.set_seed(0)
    return YoloV4(CspDarkNet53(**TINY, activation="mish", **conv), classes, **conv)


def imported(tmp_path, source, *flags):
    """The network imported from a file, and its card."""
    output = tmp_path / "out.ckpt"
    assert import_main(["--config", CONFIG, "--source", str(source), "--output", str(output), "--quiet", *flags]) == 0
    tensors, card = load_weights(output)
    network = get_recipe(apply_card(load_config(CONFIG), card, output, with_classes=True)).build_network()
    fill_network(network, tensors, output)
    return network.set_train(False), card


def deviations(network, image, expected):
    maps = [raw.asnumpy() for raw in network(Tensor(image))]
    assert [raw.shape for raw in maps] == [raw.shape for raw in expected]
    return [
        float(np.linalg.norm(raw - other) / np.linalg.norm(other)) for raw, other in zip(maps, expected, strict=True)
    ]


def test_parity_with_darknet(uncompiled, parity, parity_dir, tmp_path):
    npz = parity_dir / "yolov4.npz"
    parity.darknet_weights(npz, tmp_path / "yolov4.weights")
    network, card = imported(tmp_path, tmp_path / "yolov4.weights")
    assert sum(p.size for p in network.trainable_params()) == 64_363_101
    reference = np.load(npz)
    expected = [reference[f"head{i}"] for i in (2, 1, 0)]
    assert max(deviations(network, parity.darknet_input(npz), expected)) <= 5e-3
    assert card["preprocess"]["mean"] == [0, 0, 0] and card["network"]["activation"] == "mish"


def test_parity_with_the_old_zoo(uncompiled, parity, parity_dir, tmp_path, capsys):
    npz = parity_dir / "zoo_yolov4.npz"
    # As saved by the zoo: with the prefix of the training wrapper.
    save_tensors(tmp_path / "zoo.ckpt", {f"yolo_network.{k}": v for k, v in parity.zoo_state_dict(npz).items()})
    network, card = imported(tmp_path, tmp_path / "zoo.ckpt")
    reference = np.load(npz)
    assert max(deviations(network, parity.zoo_input(npz), [reference[f"head{i}"] for i in range(3)])) <= 5e-3
    assert (card["network"]["activation"], card["network"]["padding"]) == ("mish_tanh", "same")
    report = capsys.readouterr().out
    assert "feature_map.backblock0.conv5.0.weight" in report and "feature_map.backblock0.conv6.bias" in report


@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
def test_shapes_and_strides(uncompiled, size):
    maps = tiny().set_train(False)(Tensor(np.zeros((2, 3, *size), np.float32)))
    assert [m.shape for m in maps] == [(2, 24, size[0] // s, size[1] // s) for s in (32, 16, 8)]


def filled(network):
    rng = np.random.default_rng(0)
    for p in network.get_parameters():
        value = rng.standard_normal(p.shape) * (0.3 if p.name.endswith("weight") else 0.1)
        if p.name.endswith(("gamma", "moving_variance")):
            value = 1 + np.abs(value)
        p.set_data(Tensor(value.astype(np.float32)))
    return network, rng.standard_normal((1, 3, 64, 64)).astype(np.float32)


def golden_values():
    """64 values of each raw map, compared with tests/golden to detect changes of the network."""
    network, image = filled(tiny().set_train(False))
    maps = [m.asnumpy().ravel() for m in network(Tensor(image))]
    return np.stack([np.resize(m[:: max(1, len(m) // 64)], 64) for m in maps])


def test_golden_values(uncompiled, golden_dir):
    values, expected = golden_values(), np.load(golden_dir / "yolov4_tiny.npy")
    assert values.shape == (3, 64)
    np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def slow_pool(x, size):
    """Maxima over windows that are cropped at the border."""
    out, half = np.empty_like(x), size // 2
    for row, column in np.ndindex(x.shape[2:]):
        window = x[:, :, max(0, row - half) : row + half + 1, max(0, column - half) : column + half + 1]
        out[:, :, row, column] = window.max((2, 3))
    return out


def test_the_pyramid_pools_negative_values_too():
    x = np.random.default_rng(0).standard_normal((1, 2, 11, 15)).astype(np.float32) - 5
    pyramid = SpatialPyramid(2, 2)
    for size, pool in ((13, pyramid.pool13), (9, pyramid.pool9), (5, pyramid.pool5)):
        np.testing.assert_array_equal(pool(Tensor(x)).asnumpy(), slow_pool(x, size))


def test_gradient_of_a_tiny_network():
    """Finite difference along the gradient, all weights, float32, in training mode (batch statistics)."""
    anchors = load_config(CONFIG).anchors
    # The large eps limits the gradient, which grows with each batch norm, to what float32 can resolve.
    network, criterion = tiny(bn_eps=0.1).set_train(), YoloV4Criterion(anchors, 3, iou_loss="giou")
    rng = np.random.default_rng(0)
    image = Tensor(rng.standard_normal((2, 3, 64, 64)).astype(np.float32))
    boxes = Tensor(np.float32([[[5, 6, 30, 40], [20, 10, 60, 50]], [[3, 3, 20, 14], [0, 0, 0, 0]]]))
    labels = Tensor(np.int32([[0, 2], [1, -1]]))

    def loss(x):
        losses = criterion(network(x), boxes, labels, None)
        return losses[0] + losses[1] + losses[2]

    ms.set_context(mode=ms.PYNATIVE_MODE)
    weights = ms.ParameterTuple(network.trainable_params())
    gradients = [g.asnumpy().astype(np.float64) for g in ms.value_and_grad(loss, None, weights)(image)[1]]
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    start = [p.asnumpy().copy() for p in weights]
    step, values = 1e-5, []
    for sign in (1, -1):
        for p, value, g in zip(weights, start, gradients, strict=True):
            p.set_data(Tensor((value + sign * step * g / norm).astype(np.float32)))
        values.append(float(loss(image)))
    numeric = (values[0] - values[1]) / (2 * step)
    assert norm > 0 and abs(numeric - norm) <= 2e-2 * norm


def test_exports_to_mindir_and_onnx(check_exports):
    def compare(theirs, ours):
        assert np.linalg.norm(ours - theirs) <= 1e-3 * np.linalg.norm(ours)

    network, image = filled(tiny().set_train(False))
    check_exports(network, [image], compare)


def test_the_compiler_logs_no_warning(capfd):
    """It used to warn of a lost side effect, for the unused map of the last head."""
    tiny().set_train()(Tensor(np.zeros((1, 3, 64, 64), np.float32)))
    assert "[WARNING]" not in capfd.readouterr().err
