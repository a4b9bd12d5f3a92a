"""MindSpore Lite and ais_bench, with stand-ins of their documented interfaces in their places: neither was run."""

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import mindspore as ms
import numpy as np
import onnxruntime
import pytest
from mindspore import nn

import predict
from msdet.config import Config, load_config
from msdet.config.key import keys_of
from msdet.errors import UserError, run_command
from msdet.export.atc import PRECISION_MODES
from msdet.export.sidecar import sidecar_path, write_sidecar
from msdet.inference import score
from msdet.inference.open_runner import open_runner
from msdet.runtime.start import Runtime
from tests.exported import CONFIG

IMAGES = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3)).astype(np.uint8)


class LiteTensor:
    """A tensor of Lite: filled and read by copies."""

    def __init__(self, values=None):
        self.values = values

    def set_data_from_numpy(self, values):
        assert values.flags.c_contiguous
        self.values = values.copy()

    def get_data_to_numpy(self):
        return self.values.copy()


class LiteModel:
    """A model of Lite, which MindSpore computes."""

    built = None
    resized = None

    def build_from_file(self, path, kind, context):
        if Path(path).read_bytes()[:4] == b"junk":
            raise RuntimeError("build_from_file failed! Error is Common error code.\nand more")
        LiteModel.built = (path, kind, context)
        self.cell = nn.GraphCell(ms.load(path))

    def get_inputs(self):
        return [LiteTensor()]

    def resize(self, inputs, dims):
        LiteModel.resized = dims

    def predict(self, inputs):
        outputs = self.cell(*[ms.Tensor(value.values) for value in inputs])
        return [LiteTensor(output.asnumpy()) for output in outputs]


@pytest.fixture
def lite(monkeypatch):
    """Stands for mindspore_lite; its precision mode is what the real one begins with."""
    module = ModuleType("mindspore_lite")
    module.Context = lambda: SimpleNamespace(
        target=[], ascend=SimpleNamespace(device_id=0, precision_mode="enforce_fp16")
    )
    module.Model, module.ModelType = LiteModel, SimpleNamespace(MINDIR="mindir")
    monkeypatch.setitem(sys.modules, "mindspore_lite", module)
    monkeypatch.delenv("MSDET_DEVICE")
    LiteModel.built = LiteModel.resized = None
    return module


class InferSession:
    """A session of ais_bench, whose .om is the ONNX file itself; that gives float16 as some of them do."""

    opened = []

    def __init__(self, device_id, model_path):
        content = Path(model_path).read_bytes()
        if content == b"junk":
            raise RuntimeError("[1][ACL: invalid parameter] load model failed")
        self.session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        self.device_id, self.is_open = device_id, True
        InferSession.opened.append(self)

    def get_inputs(self):
        return [SimpleNamespace(name=v.name, shape=list(v.shape)) for v in self.session.get_inputs()]

    def infer(self, feeds, mode):
        assert mode == "static" and self.is_open
        names = [value.name for value in self.session.get_inputs()]
        return [output.astype(np.float16) for output in self.session.run(None, dict(zip(names, feeds, strict=True)))]

    def free_resource(self):
        self.is_open = False


@pytest.fixture
def ais_bench(monkeypatch):
    """Stands for ais_bench.infer.interface."""
    for name in ("ais_bench", "ais_bench.infer", "ais_bench.infer.interface"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["ais_bench.infer.interface"].InferSession = InferSession
    monkeypatch.delenv("MSDET_DEVICE")
    InferSession.opened = []


@pytest.fixture
def om(exports, tmp_path):
    """What atc leaves: net.om beside net.onnx and its sidecar."""
    for file in (exports[1], sidecar_path(exports[1])):
        shutil.copy(file, tmp_path)
    return Path(shutil.copy(exports[1], tmp_path / "net.om"))


@pytest.fixture
def pictures(tmp_path):
    import cv2

    (tmp_path / "pictures").mkdir()
    for i, image in enumerate(IMAGES):
        cv2.imwrite(str(tmp_path / "pictures" / f"{i}.png"), image)
    return tmp_path / "pictures"


def test_lite_computes_on_ascend_in_the_precision_that_is_asked_for(lite, exports):
    with open_runner(exports[0], load_config(CONFIG, ["--device_id=3"]), "mindspore_lite") as runner:
        found = runner.predict(IMAGES)
    path, kind, context = LiteModel.built
    assert (path, kind, context.target, context.ascend.device_id) == (str(exports[0]), "mindir", ["ascend"], 3)
    assert context.ascend.precision_mode == "preferred_fp32" and LiteModel.resized is None
    for ours, theirs in zip(found, open_runner(exports[0], load_config(CONFIG)).predict(IMAGES), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    open_runner(exports[0], load_config(CONFIG, ["--precision_mode=enforce_origin"]), "mindspore_lite")
    assert LiteModel.built[2].ascend.precision_mode == "enforce_origin"


def test_lite_computes_on_the_cpu_only_where_that_is_asked_for(lite, exports, monkeypatch):
    open_runner(exports[0], load_config(CONFIG, ["--device_target=CPU"]), "mindspore_lite")
    assert LiteModel.built[2].target == ["cpu"]
    monkeypatch.setenv("MSDET_DEVICE", "CPU")
    open_runner(exports[0], load_config(CONFIG), "mindspore_lite")
    assert LiteModel.built[2].target == ["cpu"]
    open_runner(exports[0], load_config(CONFIG, ["--device_target=Ascend"]), "mindspore_lite")
    assert LiteModel.built[2].target == ["ascend"]


def test_lite_says_what_is_wrong(lite, exports, tmp_path, caplog):
    for file in (exports[0], sidecar_path(exports[0])):
        shutil.copy(file, tmp_path)
    file, sidecar = tmp_path / "net.mindir", tmp_path / "net.mindir.json"
    content = json.loads(sidecar.read_text())
    content["float16"] = {"preferred_fp32": {"is_within": False, "is_number": False, "box_px": 0.0, "score": 0.0}}
    sidecar.write_text(json.dumps(content))
    for mode, is_told in (("preferred_fp32", True), ("enforce_origin", False)):
        caplog.clear()
        open_runner(file, load_config(CONFIG, [f"--precision_mode={mode}"]), "mindspore_lite")
        assert ("NaN" in caplog.text) is is_told
    file.write_bytes(b"junk")
    with pytest.raises(UserError, match="sha256 differs"):
        open_runner(file, load_config(CONFIG), "mindspore_lite")
    write_sidecar(file, content)
    with pytest.raises(UserError, match="cannot be loaded: build_from_file failed"):
        open_runner(file, load_config(CONFIG), "mindspore_lite")


def test_commands_run_an_om_as_the_onnx_it_was_made_of(ais_bench, om, pictures, tmp_path, monkeypatch):
    started = []

    def start(cfg, workload):
        started.append(cfg.device_target)
        return Runtime(cfg.device_target)

    monkeypatch.setattr("msdet.session.session.start", start)
    for file, device in ((om, "Ascend"), (om.with_suffix(".onnx"), "CPU")):
        flags = ["--config", CONFIG, "--pretrained", str(file), "--source", str(pictures), "--device_id", "2"]
        out = ["--output", str(tmp_path / file.suffix), "--save_pictures", "0", "--device_target", device]
        assert run_command(predict.main, [*flags, *out]) == 0
    assert started == ["CPU", "CPU"]
    (session,) = InferSession.opened
    assert session.device_id == 2 and not session.is_open
    ours, theirs = (json.loads((tmp_path / end / "predictions.json").read_text()) for end in (".om", ".onnx"))
    assert len(ours) == len(theirs) == 2
    for mine, other in zip(ours, theirs, strict=True):
        scores = [[found["score"] for found in picture["detections"]] for picture in (mine, other)]
        assert len(scores[1]) > 5 and abs(len(scores[0]) - len(scores[1])) <= 2
        np.testing.assert_allclose(scores[0][:5], scores[1][:5], atol=2e-3)


def test_an_om_without_its_sidecar_or_of_another_form_is_refused(ais_bench, om):
    sidecar = om.with_name("net.onnx.json")
    content = json.loads(sidecar.read_text())
    content["inputs"][0]["shape"] = [2, *content["inputs"][0]["shape"][1:]]
    content["form"]["batch_size"] = 2
    sidecar.write_text(json.dumps(content))
    with pytest.raises(
        UserError, match=r"net\.om has input shapes \[\[1, 3, 64, 64\]\], but .* has \[\[2, 3, 64, 64\]\]"
    ):
        open_runner(om, load_config(CONFIG))
    om.write_bytes(b"junk")
    with pytest.raises(UserError, match="cannot be loaded.*load model failed"):
        open_runner(om, load_config(CONFIG))
    sidecar.unlink()
    with pytest.raises(UserError, match=r"net\.onnx\.json is missing"):
        open_runner(om, load_config(CONFIG))


def test_an_om_needs_ais_bench(om):
    with pytest.raises(UserError, match="ais_bench and aclruntime are not installed"):
        open_runner(om, load_config(CONFIG))


def test_the_310_command_leaves_the_precision_in_the_command_of_atc(exports, tmp_path, monkeypatch):
    cfg = load_config(CONFIG, ["--precision_mode=enforce_fp16", f"--pretrained={exports[1]}"])
    score.open_file(cfg, tmp_path)
    assert "--precision_mode=force_fp16" in (tmp_path / "atc.sh").read_text()
    score.open_file(load_config(CONFIG, [f"--pretrained={exports[1]}"]), tmp_path)
    assert "--precision_mode=allow_fp32_to_fp16" in (tmp_path / "atc.sh").read_text()


def test_the_key_and_atc_know_the_same_precision_modes(exports):
    assert set(keys_of(Config)["precision_mode"].choices) == set(PRECISION_MODES)
    # An export that was told not to emulate float16 says nothing of it, and a runner does not ask.
    assert json.loads(sidecar_path(exports[0]).read_text())["float16"] == {}
