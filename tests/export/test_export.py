"""Exported files: every form is loaded again and does what the checkpoint does; what does not is not kept."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

import export as command
from msdet.config import load_config
from msdet.errors import UserError, run_command
from msdet.export import command as export
from msdet.export.export_network import ExportNetwork
from msdet.export.formats.mindir import MindirExporter
from msdet.export.formats.table import EXPORTERS
from msdet.export.sample_images import sample_images
from msdet.export.sidecar import read_sidecar, sidecar_path
from msdet.export.spec import DeployCell, to_arrays
from msdet.inference.open_runner import open_runner
from msdet.inference.runners import CheckpointRunner

CONFIG = "configs/yolov3.yaml"


def run(checkpoint, target, *flags):
    # What float16 costs is asked in test_half.py.
    given = ["--config", CONFIG, "--ckpt_file", str(checkpoint), "--testing_shape", "64", "--emulate_float16", "0"]
    return run_command(command.main, [*given, "--file_name", str(target), *flags])


def truth(checkpoint, images, valid):
    runner = CheckpointRunner(checkpoint, load_config(CONFIG, ["--testing_shape=64"]))
    return runner.predict(images, valid)


@pytest.mark.parametrize(
    ("name", "file_format"),
    [
        ("my nets/net 1", "MINDIR"),
        pytest.param(os.fsdecode(b"caf\xe9/n\xe9t"), "ONNX", marks=pytest.mark.slow),
        pytest.param("模型/网络", "ONNX", marks=pytest.mark.slow),
        pytest.param(os.fsdecode(b"caf\xe9/n\xe9t"), "MINDIR", marks=pytest.mark.slow),
    ],
)
def test_a_file_may_have_any_name(checkpoint, tmp_path, name, file_format):
    assert run(checkpoint, tmp_path / name, "--file_format", file_format) == 0
    path = (tmp_path / name).with_name(f"{(tmp_path / name).name}.{file_format.lower()}")
    assert sorted(found.name for found in path.parent.iterdir()) == [path.name, f"{path.name}.json"]
    with open_runner(path, load_config(CONFIG)) as runner:
        boxes, scores = runner.predict(*sample_images(1, (64, 64)))
    assert np.isfinite(boxes).all() and scores.max() > 0.1


@pytest.mark.parametrize(
    ("file_format", "detect", "preprocess"),
    [
        ("MINDIR", True, True),
        ("ONNX", False, True),
        pytest.param("MINDIR", False, False, marks=pytest.mark.slow),
        pytest.param("MINDIR", False, True, marks=pytest.mark.slow),
        pytest.param("ONNX", True, True, marks=pytest.mark.slow),
        pytest.param("ONNX", False, False, marks=pytest.mark.slow),
    ],
)
def test_every_form_agrees_with_the_checkpoint(checkpoint, tmp_path, file_format, detect, preprocess):
    flags = ["--file_format", file_format, "--keep_detect", str(detect), "--keep_preprocess", str(preprocess)]
    assert run(checkpoint, tmp_path / "n", *flags) == 0
    path = tmp_path / ("n.mindir" if file_format == "MINDIR" else "n.onnx")
    sidecar = json.loads(sidecar_path(path).read_text())
    assert sidecar["form"]["detect"] is detect
    assert sidecar["inputs"][0]["dtype"] == ("uint8" if preprocess else "float32")
    assert sidecar["verified"]["boxes"] > 20
    images, valid = sample_images(3, (64, 64))
    runner = open_runner(path, load_config(CONFIG))
    for mine, other in zip(truth(checkpoint, images, valid), runner.predict(images, valid), strict=True):
        np.testing.assert_allclose(np.clip(other, 0, 64), np.clip(mine, 0, 64), atol=5e-3)
    assert runner.card["class_names"] == ["cat", "dog"]
    assert runner.card["category_ids"] == [7, 9]


def test_any_batch(checkpoint, tmp_path):
    assert run(checkpoint, tmp_path / "n.mindir", "--batch_size", "0", "--keep_preprocess", "1") == 0
    images, valid = sample_images(5, (64, 64))
    runner = open_runner(tmp_path / "n.mindir", load_config(CONFIG))
    assert runner.batch_size == 0
    for count in (5, 2):
        boxes, scores = runner.predict(images[:count], valid[:count])
        expected = truth(checkpoint, images[:count], valid[:count])
        np.testing.assert_allclose(scores, expected[1], atol=1e-5)
        assert len(boxes) == count


@pytest.mark.slow
def test_a_fixed_batch_is_filled_up(checkpoint, tmp_path):
    assert run(checkpoint, tmp_path / "n", "--file_format", "ONNX", "--batch_size", "2") == 0
    images, valid = sample_images(3, (64, 64))
    runner = open_runner(tmp_path / "n.onnx", load_config(CONFIG))
    np.testing.assert_allclose(runner.predict(images, valid)[1], truth(checkpoint, images, valid)[1], atol=1e-3)


@pytest.fixture(scope="module")
def verified(checkpoint):
    """What `write_and_verify` takes besides path and format."""
    ms.set_context(mode=ms.GRAPH_MODE)
    cfg = load_config(CONFIG, ["--num_classes=0", "--testing_shape=64"])
    loaded = ExportNetwork.load(cfg, Path(checkpoint))
    spec = loaded.spec()
    arrays = loaded.inputs(spec)
    return loaded, arrays, to_arrays(DeployCell(loaded.recipe, loaded.network, spec)(*map(Tensor, arrays)))


@pytest.mark.parametrize("what", ["nothing", "output", "shape", "boxes", "nan"])
@pytest.mark.parametrize("file_format", ["MINDIR", "ONNX"])
def test_a_file_that_differs_is_refused(verified, exports, tmp_path, monkeypatch, what, file_format):
    loaded, arrays, ours = verified
    kind = type(EXPORTERS[file_format])
    loaded = replace(loaded, cfg=loaded.cfg.replace(file_format=file_format))

    class Spoiling(kind):
        def write(self, loaded, spec, kind, path, arrays, names):
            shutil.copy(exports[file_format == "ONNX"], path)

        def run(self, path, arrays):
            return spoilt(super().run(path, arrays), what)

    path = tmp_path / f"n.{file_format.lower()}"
    if what == "nothing":
        assert export.write_and_verify(loaded, Spoiling(), path, arrays, ours).boxes > 20
        return
    with pytest.raises(UserError, match="differ|gives|not finite"):
        export.write_and_verify(loaded, Spoiling(), path, arrays, ours)


def spoilt(outputs, what):
    boxes, scores = outputs
    if what == "output":
        scores = scores * np.float32(1.01)
    elif what == "shape":
        scores = scores[:, :-1]
    elif what == "boxes":
        boxes = boxes + np.float32(0.06) * (scores.max(-1, keepdims=True) == scores.max())
    elif what == "nan":
        scores = scores * np.float32("nan")
    return [boxes, scores]


def test_a_file_that_differs_is_not_kept(checkpoint, tmp_path, monkeypatch, capsys):
    real = MindirExporter.run
    monkeypatch.setattr(MindirExporter, "run", lambda self, path, arrays: spoilt(real(self, path, arrays), "output"))
    assert run(checkpoint, tmp_path / "n", "--file_format", "MINDIR") == 1
    assert "error:" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--file_format", "AIR"], 2, "AIR, which only MindSpore on Ascend writes, and this is CPU"),
        (["--file_format", "ONNX", "--export_batch_size", "0"], 2, "ONNX files have a fixed batch"),
        (["--file_format", "TFLITE"], 2, "file_format"),
        (["--backbone_shape", "4,4,8,8,8,32"], 2, "backbone_shape"),
        (["--testing_shape", "65"], 2, "multiples of 32"),
        (["--num_classes", "3"], 2, "num_classes"),
    ],
)
def test_flags_that_do_not_fit(checkpoint, tmp_path, capsys, flags, code, message):
    assert run(checkpoint, tmp_path / "n", *flags) == code
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_that_do_not_fit(checkpoint, tmp_path, capsys):
    assert run(tmp_path / "absent.ckpt", tmp_path / "n") == 1
    assert "absent.ckpt does not exist" in capsys.readouterr().err
    bare = tmp_path / "bare.ckpt"
    bare.write_bytes(checkpoint.read_bytes())
    assert run(bare, tmp_path / "n", "--num_classes", "0") == 2
    assert "has no card with its classes" in capsys.readouterr().err
    assert run_command(command.main, ["--config", CONFIG]) == 2
    assert "--ckpt_file" in capsys.readouterr().err


def test_a_name_that_contradicts_the_format(checkpoint, tmp_path, capsys):
    assert run(checkpoint, tmp_path / "n.onnx") == 2
    assert "--file_format ONNX" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_its_sidecar_or_with_another_one_does_not_run(exports, tmp_path):
    for source in exports:
        copy = tmp_path / source.name
        copy.write_bytes(source.read_bytes())
        with pytest.raises(UserError, match=r"\.json is missing"):
            open_runner(copy, load_config(CONFIG))
        content = bytearray(source.read_bytes())
        content[len(content) // 2] ^= 1
        copy.write_bytes(content)
        sidecar_path(copy).write_text(sidecar_path(source).read_text())
        with pytest.raises(UserError, match="sha256 differs"):
            open_runner(copy, load_config(CONFIG))
        sidecar_path(copy).write_text('{"form": {}}')
        with pytest.raises(UserError, match="is not a sidecar"):
            open_runner(copy, load_config(CONFIG))


def test_runners_say_what_they_cannot_do(exports, checkpoint, tmp_path):
    cfg = load_config(CONFIG)
    with pytest.raises(UserError, match="does not run"):
        open_runner(exports[0], cfg, "onnxruntime")
    with pytest.raises(UserError, match=r"\.ckpt"):
        open_runner(tmp_path / "x.pb", cfg)
    with pytest.raises(UserError, match="mindspore_lite is not installed"):
        open_runner(exports[0], cfg, "mindspore_lite")
    with pytest.raises(UserError, match="exported for 64 x 64"):
        open_runner(exports[0], load_config(CONFIG, ["--testing_shape=96"]))
    with pytest.raises(UserError, match="this file takes uint8"):
        open_runner(exports[0], cfg).predict(np.zeros((1, 32, 32, 3), np.uint8))


def test_the_sidecar_tells_what_was_verified(exports):
    content, spec = read_sidecar(exports[1])
    assert spec.size == (64, 64)
    assert content["verified"]["box_px"] <= 0.05
    assert content["checkpoint"]["file"] == "w.ckpt"
    assert "mindspore" in content["versions"]
    assert content["config"]["preprocess"]["channel_order"] == "RGB"


def test_the_network_is_the_checkpoints(checkpoint):
    loaded = ExportNetwork.load(load_config(CONFIG, ["--testing_shape=64"]), Path(checkpoint))
    assert isinstance(loaded.network, nn.Cell)
    assert not loaded.network.training
    assert loaded.cfg.class_names == ("cat", "dog")
    assert ms.get_context("mode") == ms.GRAPH_MODE


def test_a_file_is_compared_in_full_float32(monkeypatch, at_root):
    """Whatever the key says, which is about training."""

    class Started(Exception):
        pass

    def start(cfg, workload):
        raise Started(cfg.allow_hf32)

    monkeypatch.setattr("msdet.session.session.start", start)
    with pytest.raises(Started, match="False"):
        export.export(load_config("configs/yolov3.yaml", ["--allow_hf32=1", "--pretrained=x.ckpt"]))
