"""Layer implementations of each device, and the results of those that a CPU can run."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from msdet.config import load_config
from msdet.layers.conv import ConvBnAct, LeakyReLU, Mish, SpatialMean, UpsampleNearest2x
from msdet.models.efficientdet_d0.efficientnet import Gate
from msdet.models.recipe import get_recipe
from msdet.quantization.quantize import FakeQuantConv
from msdet.runtime.device import TRAITS
from msdet.training import device_layers
from msdet.training.device_layers import (
    AclnnActivation,
    AclnnBatchNorm,
    AclnnConv,
    symmetric_padding,
    use_device_layers,
)

pytestmark = pytest.mark.usefixtures("at_root")
RNG = np.random.default_rng(0)


def use(monkeypatch, name, is_single, mode=ms.GRAPH_MODE):
    ms.set_context(mode=mode)
    monkeypatch.setattr(device_layers, "device_traits", lambda: TRAITS[name])
    monkeypatch.setattr(device_layers, "launches_each_operator", lambda: is_single)


def network():
    layers = [ConvBnAct(3, 4, 3), ConvBnAct(4, 4, 3, 2, activation="mish", padding="same"), UpsampleNearest2x()]
    return nn.SequentialCell(layers)


def test_a_cpu_keeps_its_layers():
    cells = network()
    before = [(type(cell), vars(cell).get("cpu_optimized")) for _, cell in cells.cells_and_names()]
    use_device_layers(cells)
    assert [(type(cell), vars(cell).get("cpu_optimized")) for _, cell in cells.cells_and_names()] == before


@pytest.mark.parametrize("name", ["GPU", "ascend910"])
def test_whole_graph_execution_uses_plain_operators_only(monkeypatch, name):
    use(monkeypatch, name, is_single=False)
    cells = network()
    use_device_layers(cells)
    assert not cells[0].activation.cpu_optimized and not cells[2].cpu_optimized
    kinds = {type(cell) for _, cell in cells.cells_and_names()}
    assert not kinds & {AclnnConv, AclnnBatchNorm, AclnnActivation}


def test_operator_by_operator_execution_uses_fused_kernels(monkeypatch):
    use(monkeypatch, "ascend910b", is_single=True)
    cells = network()
    use_device_layers(cells)
    first, second, _ = cells
    assert isinstance(first.conv.conv2d, AclnnConv) and isinstance(first.bn.bn_train, AclnnBatchNorm)
    assert isinstance(first.activation.leaky_relu, AclnnActivation)
    assert isinstance(second.activation.library, AclnnActivation)
    # With stride 2, "same" pads asymmetrically, which the kernel does not support.
    assert not isinstance(second.conv.conv2d, AclnnConv)
    # The names in a checkpoint do not change.
    assert {p.name for p in cells.get_parameters()} == {p.name for p in network().get_parameters()}


def test_statistics_stay_with_the_library_in_pynative_mode(monkeypatch):
    use(monkeypatch, "ascend910b", is_single=True, mode=ms.PYNATIVE_MODE)
    cells = network()
    use_device_layers(cells)
    assert isinstance(cells[0].conv.conv2d, AclnnConv) and not isinstance(cells[0].bn.bn_train, AclnnBatchNorm)


@pytest.mark.parametrize(("per_channel", "is_fused"), [("1,0", True), ("0,0", False)])
def test_statistics_read_by_a_folding_convolution_are_updated_in_place(monkeypatch, per_channel, is_fused):
    use(monkeypatch, "ascend910b", is_single=True)
    flags = ["--backbone_shape=4,4,4,4,4,4", "--backbone_layers=1,1,1,1,1", "--num_classes=2", "--class_names=a,b"]
    quantized = ["--quantization_aware=1", f"--per_channel={per_channel}", "--pretrained=x.ckpt"]
    cells = get_recipe(load_config("configs/yolov3.yaml", [*flags, *quantized])).build_network()
    use_device_layers(cells)
    norms = [cell for _, cell in cells.cells_and_names() if isinstance(cell, nn.BatchNorm2d)]
    assert norms and {isinstance(norm.bn_train, AclnnBatchNorm) for norm in norms} == {is_fused}
    folds = {cell.folds for _, cell in cells.cells_and_names() if isinstance(cell, FakeQuantConv)}
    assert (True in folds) is not is_fused


@pytest.mark.parametrize(
    ("cell", "shapes"),
    [
        (LeakyReLU(0.1), [(2, 3, 4, 5)]),
        (Mish(), [(2, 3, 4, 5)]),
        (SpatialMean(), [(2, 3, 4, 5)]),
        (SpatialMean(keep_dims=False), [(2, 3, 4, 5)]),
        (UpsampleNearest2x(), [(2, 3, 4, 5)]),
        (Gate(), [(2, 3, 4, 5), (2, 3, 1, 1)]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_device_and_cpu_implementations_give_the_same_result(cell, shapes):
    """And the same gradient. MindSpore's Mish on a CPU has a tanh with an error of 1e-4."""
    inputs = [Tensor(RNG.standard_normal(shape).astype(np.float32)) for shape in shapes]
    results = []
    for cpu_optimized in (True, False):
        cell.set_train()
        cell.cpu_optimized = cpu_optimized
        weight = Tensor(np.linspace(-1, 1, cell(*inputs).size, dtype=np.float32).reshape(cell(*inputs).shape))

        def weighted(*values, weight=weight):
            return (cell(*values) * weight).sum()

        value, gradients = ms.value_and_grad(weighted, tuple(range(len(inputs))))(*inputs)
        gradients = gradients if isinstance(gradients, tuple) else (gradients,)
        results.append([cell(*inputs).asnumpy(), value.asnumpy(), *[g.asnumpy() for g in gradients]])
    for mine, other in zip(*results, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-3 if isinstance(cell, Mish) else 1e-5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"pad_mode": "pad", "padding": 2}, (2, 2)),
        ({"pad_mode": "pad", "padding": (1, 1, 2, 2)}, (1, 2)),
        ({"pad_mode": "pad", "padding": (0, 1, 1, 1)}, None),
        ({"pad_mode": "valid"}, (0, 0)),
        ({"pad_mode": "same"}, (1, 1)),
        ({"pad_mode": "same", "dilation": 3}, (3, 3)),
        ({"pad_mode": "same", "stride": 2}, None),
        ({"pad_mode": "same", "kernel_size": 1, "stride": 2}, (0, 0)),
        ({"pad_mode": "same", "kernel_size": 4}, None),
    ],
    ids=str,
)
def test_symmetric_padding(options, expected):
    """An explicitly padded convolution with the returned padding gives the same map."""
    options = {"kernel_size": 3, "weight_init": "normal", **options}
    conv = nn.Conv2d(2, 2, **options)
    found = symmetric_padding(conv)
    assert found == expected
    if found is not None:
        (top, left), plain = found, {key: value for key, value in options.items() if key not in ("pad_mode", "padding")}
        other = nn.Conv2d(2, 2, pad_mode="pad", padding=(top, top, left, left), **plain)
        other.weight.set_data(conv.weight)
        x = Tensor(RNG.standard_normal((1, 2, 9, 8)).astype(np.float32))
        np.testing.assert_array_equal(other(x).asnumpy(), conv(x).asnumpy())
