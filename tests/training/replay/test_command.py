"""The command `msdet replay`: one process on a CPU, whatever the run was trained on."""

from types import SimpleNamespace

import pytest

from msdet.cli import command
from msdet.config import load_config
from msdet.models import recipe as recipes
from msdet.runtime import start as runtimes
from msdet.training import train as trainings
from msdet.training.replay import failed_step
from tests.in_process import run

pytestmark = pytest.mark.usefixtures("at_root")


def test_the_lines_of_the_report_are_printed(tmp_path, monkeypatch, capsys):
    cfg = load_config("configs/yolov3_shapes.yaml", ["--device_target=Ascend", "--is_distributed=1"])
    started = []
    monkeypatch.setattr(failed_step, "load_failed_step", lambda folder: SimpleNamespace(folder=folder, cfg=cfg))
    monkeypatch.setattr(runtimes, "start", lambda cfg: (started.append(cfg), SimpleNamespace(group_size=1))[1])
    monkeypatch.setattr(recipes, "get_recipe", lambda cfg: SimpleNamespace(build_network=lambda: "network"))
    monkeypatch.setattr(trainings, "build_train_step", lambda cfg, recipe, network, size: ((network, size), ["box"]))
    monkeypatch.setattr(failed_step, "Replay", lambda failed, step, names: SimpleNamespace(
        lines=lambda: [str(failed.folder), str(step), *names]))  # fmt: skip
    assert run(command("replay"), tmp_path) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path), "('network', 1)", "box"]
    (used,) = started
    assert used.device_target == "CPU" and not used.is_distributed


def test_another_folder_is_refused(tmp_path, capsys):
    assert run(command("replay"), tmp_path) == 1
    assert f"{tmp_path} is not the folder of a failed step" in capsys.readouterr().err
