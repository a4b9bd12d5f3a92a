"""int8 files: every form does what the fake-quantized network does, and is as small and as integer as it says."""

import json

import numpy as np
import pytest
from mindspore import Tensor

import export as command
from msdet.checkpoints.weights_file import fill_network, load_weights, save_weights, tensors_of
from msdet.config import load_config
from msdet.errors import UserError, run_command
from msdet.export.int8.graph import (
    Graph,
    Grid,
    WeightRule,
    count_operators,
    extract_grids,
    fold_batch_norm,
    insert_grids,
)
from msdet.export.onnx_session import has_vnni
from msdet.export.sample_images import sample_images
from msdet.export.sidecar import sidecar_path
from msdet.inference.open_runner import open_runner
from msdet.inference.runners import CheckpointRunner
from msdet.models.recipe import get_recipe
from msdet.quantization.quantize import calibrating
from msdet.training.quantization_aware import add_ranges

CONFIG = "configs/yolov3.yaml"
FLAGS = ["--backbone_shape=4,4,8,8,8,16", "--backbone_layers=1,1,1,1,1", "--testing_shape=64"]


@pytest.fixture(scope="module")
def quantized(checkpoint, tmp_path_factory):
    """The tiny network with ranges found on sample images, as a training would have left it."""
    weights, _ = load_weights(checkpoint)
    flags = [*FLAGS, "--num_classes=2", "--class_names=cat,dog", "--quantization_aware=1"]
    recipe = get_recipe(load_config(CONFIG, flags))
    network = recipe.build_network()
    fill_network(network, add_ranges(network, weights), checkpoint)
    images, valid = sample_images(4, (64, 64))
    with calibrating(network) as divide:
        network(recipe.build_preprocess()(Tensor(images), Tensor(valid)))[0].asnumpy()
        divide(1)
    path = tmp_path_factory.mktemp("quant") / "q.ckpt"
    save_weights(path, tensors_of(network), recipe.card([7, 9]))
    return path


def export(source, target, *flags):
    given = ["--config", CONFIG, "--ckpt_file", source, "--testing_shape", 64, "--num_classes", 0]
    return run_command(command.main, [str(a) for a in (*given, "--file_name", target, *flags)])


def predictions(path, images):
    runner = open_runner(path, load_config(CONFIG, ["--num_classes=0", "--testing_shape=64"]))
    return runner.predict(images)


@pytest.mark.parametrize("preprocess", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_int8_onnx(quantized, tmp_path, preprocess):
    flags = ("--file_format", "ONNX", "--keep_preprocess", preprocess)
    assert export(quantized, tmp_path / "n", *flags) == 0
    path = tmp_path / "n.onnx"
    operators = count_operators(path)
    # 16 in the backbone and 20 in the neck; the three heads stay float.
    assert operators["QLinearConv"] == 36
    assert operators["QLinearLeakyRelu"] == 36
    assert operators["QLinearAdd"] == 5
    assert operators["Conv"] + operators["FusedConv"] == 3
    sidecar = json.loads(sidecar_path(path).read_text())
    assert sidecar["quantization"] == "int8"
    assert sidecar["verified"]["int8"] == {"kind": "int8", "convolutions": 39, "int8_convolutions": 36}
    images, _ = sample_images(3, (64, 64))
    ours = CheckpointRunner(quantized, load_config(CONFIG, ["--num_classes=0", "--testing_shape=64"])).predict(images)
    for mine, other in zip(ours, predictions(path, images), strict=True):
        assert np.linalg.norm(mine - other) / np.linalg.norm(mine) < 0.05


@pytest.mark.slow
def test_mindir_with_int8_kernels_and_with_fake_quantization(quantized, tmp_path):
    assert export(quantized, tmp_path / "small", "--quantize", "int8") == 0
    assert export(quantized, tmp_path / "fake") == 0
    images, _ = sample_images(2, (64, 64))
    small, fake = (predictions(tmp_path / f"{name}.mindir", images) for name in ("small", "fake"))
    for mine, other in zip(small, fake, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-4)
    kernels = sum(v.size for k, v in load_weights(quantized)[0].items() if k.endswith(".weight"))
    sizes = [(tmp_path / f"{name}.mindir").stat().st_size for name in ("small", "fake")]
    assert sizes[1] - sizes[0] > 2 * kernels
    assert json.loads(sidecar_path(tmp_path / "small.mindir").read_text())["quantization"] == "int8"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fake", "int8"])
def test_float16_does_not_destroy_a_file_that_rounds(quantized, tmp_path, kind):
    """Rounding by a sum beyond 65,504 gave no numbers; scores of an untrained network are near another's threshold."""
    assert export(quantized, tmp_path / "n", "--quantize", kind) == 0
    reports = json.loads(sidecar_path(tmp_path / "n.mindir").read_text())["float16"]
    for report in reports.values():
        assert report["is_number"] and report["candidates"] > 100 and report["score"] < 0.05


def test_ptq(checkpoint, tmp_path):
    import cv2

    (tmp_path / "pictures").mkdir()
    images, _ = sample_images(5, (64, 64))
    for i, image in enumerate(images):
        cv2.imwrite(str(tmp_path / "pictures" / f"{i}.png"), image[:, :, ::-1])
    flags = ("--file_format", "ONNX", "--quantize", "ptq", "--calibration", tmp_path / "pictures")
    assert export(checkpoint, tmp_path / "n", *flags) == 0
    assert count_operators(tmp_path / "n.onnx")["QLinearConv"] == 36
    assert sorted(p.name for p in tmp_path.iterdir()) == ["n.onnx", "n.onnx.json", "pictures"]
    ours = CheckpointRunner(checkpoint, load_config(CONFIG, ["--num_classes=0", "--testing_shape=64"])).predict(images)
    _, scores = predictions(tmp_path / "n.onnx", images)
    assert np.abs(scores - ours[1]).max() < 0.2
    assert np.abs(scores - ours[1]).mean() < 0.02


@pytest.mark.parametrize(
    ("which", "flags", "message"),
    [
        ("checkpoint", ["--file_format", "ONNX", "--quantize", "ptq"], "--calibration"),
        ("checkpoint", ["--file_format", "ONNX", "--quantize", "ptq", "--calibration", "no/such"], "is not a folder"),
        ("checkpoint", ["--file_format", "MINDIR", "--quantize", "ptq"], "ptq, which needs ONNX"),
        ("checkpoint", ["--file_format", "ONNX", "--quantize", "int8"], "the checkpoint is a float network"),
        ("quantized", ["--file_format", "ONNX", "--quantize", "ptq"], "is quantization-aware and has its ranges"),
        ("quantized", ["--file_format", "ONNX", "--quantize", "fake"], "fake, which needs MINDIR"),
    ],
)
def test_flags_that_do_not_fit(request, tmp_path, capsys, monkeypatch, which, flags, message):
    """Told before a network is compiled, which takes minutes."""
    monkeypatch.setattr("msdet.export.command.DeployCell", None)
    assert export(request.getfixturevalue(which), tmp_path / "n", *flags) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_pictures(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("msdet.export.command.DeployCell", None)
    (tmp_path / "empty").mkdir()
    flags = ("--file_format", "ONNX", "--quantize", "ptq", "--calibration", tmp_path / "empty")
    assert export(checkpoint, tmp_path / "n", *flags) == 2
    assert "contains no image" in capsys.readouterr().err


def conv_bn_model(rng):
    """Conv -> BatchNormalization, one gain of which is negative and one zero."""
    from onnx import TensorProto, helper, numpy_helper

    arrays = {
        "w": rng.standard_normal((4, 3, 3, 3)),
        "gamma": np.array([1.5, -0.7, 0.0, 2.0]),
        "beta": rng.standard_normal(4),
        "mean": rng.standard_normal(4),
        "variance": rng.uniform(0.5, 2, 4),
    }
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in arrays.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "variance"], ["y"], epsilon=1e-3),
    ]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 6, 6]) for n, c in (("x", 3), ("y", 4))]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def run_model(model, x):
    import onnxruntime

    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"x": x}
    )[0]


def test_folding_changes_nothing():
    rng = np.random.default_rng(0)
    model = conv_bn_model(rng)
    x = rng.standard_normal((1, 3, 6, 6)).astype(np.float32)
    before = run_model(model, x)
    assert fold_batch_norm(model) == 1
    assert [node.op_type for node in model.graph.node] == ["Conv"]
    np.testing.assert_allclose(run_model(model, x), before, rtol=1e-4, atol=1e-5)


def test_convolutions_may_share_a_kernel():
    """As the heads of EfficientDet do on all levels; each has its own batch norm, or another range going in."""
    from onnx import TensorProto, helper

    rng = np.random.default_rng(0)
    model = conv_bn_model(rng)
    nodes = [
        helper.make_node("Conv", ["y", "w1"], ["a"]),
        helper.make_node("Conv", ["a", "w1"], ["b"]),
        helper.make_node("BatchNormalization", ["b", "gamma", "beta", "mean", "variance"], ["z"]),
    ]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(
        helper.make_tensor("w1", TensorProto.FLOAT, [4, 4, 1, 1], rng.standard_normal(16).tolist())
    )
    model.graph.output[0].name = "z"
    x = rng.standard_normal((1, 3, 6, 6)).astype(np.float32)
    before = run_model(model, x)
    assert fold_batch_norm(model) == 2
    ranges = {"x": 4, "y": 30, "a": 60}
    insert_grids(model, {name: Grid.covering(-end, end) for name, end in ranges.items()}, WeightRule())
    after = run_model(model, x)
    assert np.linalg.norm(after - before) / np.linalg.norm(before) < 0.05


def test_codes_of_kernels():
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((4, 3, 3, 3)).astype(np.float32)
    weight[2] = 0
    codes, scale = WeightRule().codes(weight, np.zeros(4))
    np.testing.assert_array_equal(np.abs(codes).reshape(4, -1).max(1), [127, 127, 0, 127])
    assert np.abs(codes * scale.reshape(-1, 1, 1, 1) - weight).max() <= scale.max() / 2 * 1.001
    # A negative gain mirrors the codes, so that folding and rounding may change places.
    np.testing.assert_array_equal(WeightRule().codes(-3 * weight, np.zeros(4))[0], -codes)
    # The bias of a channel whose kernel has died must still fit into int32.
    _, scale = WeightRule().codes(weight, np.array([0, 0, 0.5, 0]))
    assert scale[2] == np.float32(0.5)
    one, scale = WeightRule(per_channel=False, levels=7).codes(weight, np.zeros(4))
    assert scale.shape == ()
    assert np.abs(one).max() == 7


def test_grids():
    assert Grid.covering(-1, 1.55) == Grid(pytest.approx(0.01), 100)
    assert Grid.covering(0.5, 2.55) == Grid(pytest.approx(0.01), 0)
    assert Grid.covering(-2.55, -1) == Grid(pytest.approx(0.01), 255)
    assert Grid.covering(0, 0).scale > 0


def test_a_graph_that_lost_a_marker_is_refused():
    model = conv_bn_model(np.random.default_rng(0))
    with pytest.raises(UserError, match="0 of 1 quantized tensors"):
        extract_grids(model, [(0.1, 3)])
    assert len(Graph(model).convolutions()) == 1


def test_vnni_is_read_from_what_linux_says(tmp_path):
    for text, expected in (("flags\t: avx2 avx512_vnni\n", True), ("flags\t: avx2 avx512f\n", False), ("", False)):
        (tmp_path / "cpuinfo").write_text(text)
        assert has_vnni(tmp_path / "cpuinfo") is expected
    assert has_vnni(tmp_path / "absent") is False
