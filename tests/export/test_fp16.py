"""The emulation of float16 against the obvious version in numpy, and what its reports say of cells and files."""

import json

import mindspore as ms
import numpy as np
import onnxruntime
import pytest
from mindspore import Tensor, nn
from onnx import TensorProto, helper, numpy_helper

import export
from msdet.checkpoints.weights_file import load_weights, save_weights
from msdet.export.fp16 import BOX_TOLERANCE_PX, MODES, compare_float16, round_to_float16, run_in_float16
from msdet.export.onnx_graph import finalize_onnx
from msdet.layers.conv import Mish
from msdet.models.refinedet.layers import ChannelNorm
from msdet.models.yolo.decoder import YoloDecoder
from msdet.quantization.fake_quant import SnapLeakyToGrid, SnapToGrid, WeightQuant
from tests.exported import CONFIG, FLAGS
from tests.in_process import run

PREFERRED, ENFORCED = MODES
RNG = np.random.default_rng(0)


def half(x):
    with np.errstate(over="ignore"):
        return np.asarray(x, np.float32).astype(np.float16).astype(np.float32)


def results(cell, *inputs, tmp_path):
    """Outputs of a cell in float32, and in each mode."""
    tensors = [Tensor(array) for array in inputs]
    ms.onnx.export(cell, *tensors, file_name=str(tmp_path / "cell"))
    finalize_onnx(tmp_path / "cell.onnx", [f"input_{i}" for i in range(len(inputs))], ["output"])
    found = run_in_float16(tmp_path / "cell.onnx", inputs)
    return cell(*tensors), {mode: outputs[0] for mode, outputs in found.items()}


@pytest.fixture
def graph(tmp_path):
    """y = exp(conv(x) * 3) - 1 with a 1x1 convolution of two channels."""
    kernel = RNG.standard_normal((2, 2, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["sums"]),
        helper.make_node("Mul", ["sums", "three"], ["product"]),
        helper.make_node("Exp", ["product"], ["power"]),
        helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.float32([1.0001]))),
        helper.make_node("Sub", ["power", "one"], ["y"]),
    ]
    shape = [1, 2, 4, 4]
    model = helper.make_model(
        helper.make_graph(
            nodes, "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
            [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(np.float32([3.0001]), "three")],
        ),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=9,
    )  # fmt: skip
    return model, kernel[:, :, 0, 0], RNG.standard_normal(shape).astype(np.float32)


def run_model(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("mode", MODES)
def test_values_are_rounded_where_the_mode_says(graph, mode):
    model, kernel, x = graph
    rounded = half if mode == ENFORCED else np.float32
    sums = half(np.einsum("oi,nihw->nohw", half(kernel), half(x)))
    product = rounded(sums * rounded(np.float32(3.0001)))
    expected = rounded(rounded(np.exp(product)) - rounded(np.float32(1.0001)))
    found = run_model(round_to_float16(model, mode), x)
    np.testing.assert_allclose(found, expected, rtol=2e-3 if mode == ENFORCED else 1e-5, atol=1e-5)
    if mode == ENFORCED:
        np.testing.assert_array_equal(found, half(found))
    assert np.abs(found - run_model(model, x)).max() > 1e-4
    assert [node.op_type for node in model.graph.node] == ["Conv", "Mul", "Exp", "Constant", "Sub"]


def test_an_overflow_is_infinite(graph):
    model, _, x = graph
    assert np.isinf(run_model(round_to_float16(model, PREFERRED), x * 1e5)).any()
    exact = run_model(round_to_float16(model, PREFERRED), x)
    model.graph.node[1].input[1] = "large"
    model.graph.initializer.append(numpy_helper.from_array(np.float32([70_000]), "large"))
    assert np.isfinite(exact).all() and np.isinf(run_model(round_to_float16(model, ENFORCED), x)).any()


def test_reports_against_loops():
    boxes = RNG.uniform(-20, 140, (2, 30, 4)).astype(np.float32)
    scores = RNG.uniform(0, 1, (2, 30, 3)).astype(np.float32)
    others = [boxes + RNG.normal(0, 0.2, boxes.shape), scores + RNG.normal(0, 0.002, scores.shape)]
    # One lies above the threshold on this side alone, one on that side alone.
    scores[0, :2], others[1][0, :2] = 0, 0
    scores[0, 0, 0], others[1][0, 1, 0] = 0.9, 0.9
    others[0][0, :2] += 50
    report = compare_float16([boxes, scores], others, 0.7, (100, 120))
    count, px, score = 0, 0.0, 0.0
    for n, k in np.ndindex(2, 30):
        score = max(score, *np.abs(scores[n, k] - others[1][n, k]))
        if any(scores[n, k, c] > 0.7 and others[1][n, k, c] > 0.7 for c in range(3)):
            count += 1
            for side, limit in enumerate((120, 100, 120, 100)):
                ends = [min(max(b[n, k, side], 0), limit) for b in (boxes, others[0])]
                px = max(px, abs(ends[0] - ends[1]))
    assert (report.candidates, report.is_number) == (count, True)
    assert (report.box_px, report.score) == pytest.approx((px, score), rel=1e-6)
    assert not report.is_within and "px" in str(report)
    assert compare_float16([boxes, scores], [boxes + 0.9, scores - 0.009], 0.7, (100, 120)).is_within
    others[0][0, 0] = np.inf
    assert compare_float16([boxes, scores], others, 0.0, (100, 120)).is_number
    others[1][0, 0, 0] = np.nan
    report = compare_float16([boxes, scores], others, 0.7, (100, 120))
    assert not report.is_number and not report.is_within and "NaN" in str(report)
    report = compare_float16([scores[0]], [scores[0] + 0.02], 0.0, (100, 120))
    assert (report.candidates, report.is_within) == (0, False) and report.score == pytest.approx(0.02, rel=1e-4)


def test_mish_holds(tmp_path):
    x = np.linspace(-120, 300, 4097, dtype=np.float32)
    ours, found = results(Mish().set_train(False), x, tmp_path=tmp_path)
    for mode in MODES:
        np.testing.assert_allclose(found[mode], ours.asnumpy(), rtol=4e-3, atol=1e-3)


def test_the_norm_of_channels_holds(tmp_path):
    x = RNG.uniform(0, 500, (1, 512, 3, 3)).astype(np.float32)
    x[..., 0] = 0
    x[..., 1] *= 0.01
    ours, found = results(ChannelNorm(512, 20.0).set_train(False), x, tmp_path=tmp_path)
    for mode in MODES:
        np.testing.assert_allclose(found[mode], ours.asnumpy(), rtol=5e-3, atol=1e-4)
    assert (ours.asnumpy()[..., 0] == 0).all()


def test_cells_of_a_large_map_stay_in_their_places(tmp_path):
    """A map of 52 x 52 has more cells than float16 can count."""
    anchors = [[10, 13], [16, 30], [33, 23], [30, 61], [62, 45], [59, 119], [116, 90], [156, 198], [373, 326]]
    maps = [np.random.default_rng(1).normal(0, 0.3, (1, 18, side, side)).astype(np.float32) for side in (13, 26, 52)]

    class Decoder(nn.Cell):
        def __init__(self):
            super().__init__()
            self.decoder = YoloDecoder(anchors, 1)

        def construct(self, first, second, third):
            return self.decoder((first, second, third), (416, 416))[0]

    ours, found = results(Decoder().set_train(False), *maps, tmp_path=tmp_path)
    middles = [(boxes[..., :2] + boxes[..., 2:]) / 2 for boxes in (ours.asnumpy(), found[ENFORCED])]
    assert np.abs(middles[0] - middles[1]).max() < 1


@pytest.mark.parametrize("uses_round", [True, False])
def test_rounding_to_a_grid_holds_only_by_its_operator(tmp_path, uses_round):
    class Rounded(nn.Cell):
        def __init__(self):
            super().__init__()
            self.snap, self.leaky, self.weights = SnapToGrid(), SnapLeakyToGrid(0.1), WeightQuant()
            for cell in (self.snap, self.leaky, self.weights):
                cell.uses_round = uses_round

        def construct(self, x, scale, zero_point):
            kernel = self.weights(x[:, :, :1, :1])
            return self.snap(x, scale, zero_point) + self.leaky(x, scale, zero_point) + kernel

    x = RNG.uniform(-3, 3, (4, 4, 16, 16)).astype(np.float32)
    grid = np.float32([0.02]), np.float32([100])
    ours, found = results(Rounded().set_train(False), x, *grid, tmp_path=tmp_path)
    # Two roundings of one step, and a kernel of one step of 3 / 127, may fall to the next code.
    is_near = np.nan_to_num(np.abs(found[ENFORCED] - ours.asnumpy()), nan=9).max() < 0.07
    assert is_near == uses_round


def test_plain_rounding_gives_the_same_values():
    x = Tensor(np.concatenate((RNG.uniform(-3, 3, 20_000), np.arange(-400, 400) * 0.01)).astype(np.float32))
    scale, zero_point = Tensor([0.02], ms.float32), Tensor([100.0], ms.float32)
    for cell in (SnapToGrid(), SnapLeakyToGrid(0.1)):
        plain = SnapLeakyToGrid(0.1) if isinstance(cell, SnapLeakyToGrid) else SnapToGrid()
        plain.uses_round = True
        np.testing.assert_array_equal(plain(x, scale, zero_point).asnumpy(), cell(x, scale, zero_point).asnumpy())


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(("--file_format", "MINDIR"), marks=pytest.mark.slow),
        ("--file_format", "ONNX", "--keep_detect", "False"),
    ],
)
def test_an_export_says_what_float16_costs(checkpoint, tmp_path, capsys, flags):
    name = tmp_path / "net"
    own = ["--config", CONFIG, "--num_classes", "0", "--ckpt_file", checkpoint, *FLAGS[:2], "--testing_shape", "64"]
    assert run(export.main, *own, *flags, "--file_name", name) == 0
    log = capsys.readouterr().out
    sidecar = json.loads(next(tmp_path.glob("net.*.json")).read_text())
    assert set(sidecar["float16"]) == set(MODES)
    for mode, report in sidecar["float16"].items():
        assert report["is_number"] and report["is_within"] and report["candidates"] > 0
        assert 0 < report["box_px"] < BOX_TOLERANCE_PX and report["score"] > 0
        assert f"precision mode {mode} (emulated)" in log
    assert sidecar["float16"][ENFORCED]["box_px"] > sidecar["float16"][PREFERRED]["box_px"]


def test_an_export_that_float16_destroys_is_told(checkpoint, tmp_path, capsys):
    """Sums of a convolution beyond 65,504, which the batch norm behind it brings back."""
    tensors, card = load_weights(checkpoint)
    first = next(name for name in tensors if name.endswith("conv.weight"))
    tensors[first] = tensors[first] * 1e6
    for name in ("gamma", "moving_mean"):
        norm = first.replace("conv.weight", f"bn.{name}")
        tensors[norm] = tensors[norm] * (1e6 if name == "moving_mean" else 1)
    norm = first.replace("conv.weight", "bn.moving_variance")
    tensors[norm] = tensors[norm] * 1e12
    save_weights(tmp_path / "large.ckpt", tensors, card)
    own = ["--config", CONFIG, "--num_classes", "0", "--ckpt_file", tmp_path / "large.ckpt", "--testing_shape", "64"]
    assert run(export.main, *own, "--file_name", tmp_path / "net") == 0
    reports = json.loads((tmp_path / "net.mindir.json").read_text())["float16"]
    assert not reports[PREFERRED]["is_within"]
    warnings = [
        line for line in capsys.readouterr().out.splitlines() if ":WARNING:Ascend precision mode preferred_fp32" in line
    ]
    assert len(warnings) == 1 and "outputs contain NaN. Do not run it" in warnings[0]
