"""The flags, paths and output of `msdet import`."""

import pytest

from msdet.errors import run_command
from msdet.importers.command import main
from tests.importers.tiny_yolov3 import CONFIG, TINY, darknet_bytes, run, tiny_network

pytestmark = pytest.mark.usefixtures("graph_mode")


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--layout", "none"], 2, "--layout is 'none'; yolov3 has darknet, zoo"),
        (["--layout", "zoo"], 2, "--layout zoo is for mindspore files"),
        (["--partial", "head"], 2, "only 'backbone'"),
        (["--activation", "relu"], 2, "--activation is relu, but weights of the layout darknet need leaky"),
        (["--no_such_key", "1"], 2, "no_such_key"),
    ],
)
def test_flags_that_do_not_fit(tmp_path, capsys, flags, code, message):
    (tmp_path / "a.weights").write_bytes(darknet_bytes(tiny_network()))
    assert run(tmp_path, tmp_path / "a.weights", *flags) == code
    assert message in capsys.readouterr().err


def test_paths_that_do_not_fit(tmp_path, capsys):
    (tmp_path / "a.weights").write_bytes(darknet_bytes(tiny_network()))
    assert run(tmp_path, tmp_path / "absent.weights") == 1
    assert "absent.weights cannot be read" in capsys.readouterr().err
    command = ["--config", CONFIG, *TINY, "--source", str(tmp_path / "a.weights"), "--output", str(tmp_path / "x.pth")]
    assert run_command(main, command) == 2
    assert "ends in .ckpt" in capsys.readouterr().err
    (tmp_path / "a.pth").write_bytes(b"neither zip nor pickle")
    assert run(tmp_path, tmp_path / "a.pth") == 1
    assert "neither a zip archive nor a pickle" in capsys.readouterr().err


def test_the_output_lists_every_tensor(tmp_path, capsys):
    (tmp_path / "a.weights").write_bytes(darknet_bytes(tiny_network()))
    assert run(tmp_path, tmp_path / "a.weights") == 0
    out = capsys.readouterr().out
    assert "backbone.stem.bn.beta (4,) <- values 0 to 3" in out and "out.ckpt and its card out.json written" in out


def test_quiet_output_and_the_hint_for_quantization_aware_training(tmp_path, capsys):
    (tmp_path / "a.weights").write_bytes(darknet_bytes(tiny_network()))
    assert run(tmp_path, tmp_path / "a.weights", "--quiet", "--quantization_aware", "1") == 0
    totals, written, hint = capsys.readouterr().out.splitlines()
    assert totals.endswith("values imported; 0 skipped") and written.endswith("written")
    assert f"train for int8 with --config {CONFIG} --pretrained" in hint
