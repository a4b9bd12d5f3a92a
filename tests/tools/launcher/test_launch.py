"""The launch command: invalid command lines, help and notes."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from msdet.errors import run_command
from msdet.tools.launcher import arguments as launch_table
from msdet.tools.launcher import launch

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.usefixtures("folder")


def test_selected_recipe_is_printed(folder, monkeypatch, capsys):
    monkeypatch.setattr(launch_table, "CONFIGS", ROOT / "configs")
    monkeypatch.setattr("msdet.tools.launcher.watch.run", lambda plan: 0)
    assert launch.main(shlex.split("run_standalone_train refinedet 0 500 0.05 coco")) == 0
    assert (
        "LR 0.05 is a learning rate of the old model zoo: using refinedet_vgg16_320_seed.yaml"
        in capsys.readouterr().out
    )


WRONG = {
    "run_eval yolov4 d": ["1 arguments after yolov4", "yolov4 DATA_DIR CHECKPOINT_PATH [DEVICE_ID]"],
    "run_distribute_train refinedet 8 500 0.05": ["refinedet DEVICE_NUM EPOCH_SIZE LR DATASET [RANK_TABLE_FILE]",
                                                  "PRE_TRAINED_EPOCH_SIZE"],
    "run_standalone_train refinedet zero 500 0.05 coco": ["DEVICE_ID EPOCH_SIZE LR DATASET"],
    "run_distribute_train yolov4 d b table.txt": ["[RANK_TABLE_FILE]"],
    "run_standalone_train": ["MODEL is missing", "run_standalone_train.sh MODEL"],
    "run_standalone_train yolov5 d b": ["no model 'yolov5'", "yolov4"],
    "run_standalone_train ./none.yaml d b": ["./none.yaml"],
    "run_standalone_train yolov4 d b --device_num 2": ["run_distribute_train.sh"],
    "run_eval yolov4 d c --device_num many": ["--device_num: invalid int value: 'many'"],
    "run_eval yolov4 d c --device_num": ["--device_num: expected one argument"],
    "run_eval yolov4 d c --launcher slurm": ["--launcher: invalid choice: 'slurm' (choose from 'msrun', 'mpirun')"],
    "run_distribute_train yolov4 d b --launcher mpirun --worker_num 16": ["supports one machine"],
    "run_eval yolov4 d c --stall_timeout -3": ["must not be negative"],
}  # fmt: skip


@pytest.mark.parametrize("line", WRONG)
def test_invalid_command_lines(line, folder, capsys):
    assert run_command(launch.main, shlex.split(line)) == 2
    message = capsys.readouterr().err
    for fragment in WRONG[line]:
        assert fragment in message


def test_help(capsys):
    assert run_command(launch.main, ["run_eval", "--help"]) == 0
    assert "run_eval.sh MODEL" in capsys.readouterr().out
    assert run_command(launch.main, ["run_eval", "refinedet", "--help"]) == 0
    assert "refinedet DATASET CHECKPOINT_PATH DEVICE_ID" in capsys.readouterr().out
    assert run_command(launch.main, ["run_nothing"]) == 2
