"""Positional arguments of the launch scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from msdet.errors import run_command
from msdet.tools.launcher import arguments as launch_table
from msdet.tools.launcher import launch
from tests.tools.launcher.old_zoo_commands import flags_of, plan_of

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize(
    ("line", "config"),
    [
        ("run_distribute_train refinedet 8 500 0.05 coco", "refinedet_vgg16_320_seed"),
        ("run_distribute_train refinedet 8 500 0.05 coco p.ckpt 200", "refinedet_vgg16_320_seed"),
        ("run_standalone_train_gpu refinedet 0 5 2e-2 coco", "refinedet_vgg16_320_seed"),
        ("run_standalone_train refinedet_resnet101_512 0 500 0.05 voc", "refinedet_resnet101_512_seed"),
        ("run_distribute_train refinedet 8 110 0.001 coco", "refinedet_vgg16_320"),
        ("run_standalone_train refinedet_vgg16_320_seed 0 500 0.05 coco", "refinedet_vgg16_320_seed"),
        ("run_standalone_train refinedet 0 500 0.0.5 coco", "refinedet_vgg16_320"),
        ("run_eval refinedet coco c.ckpt 0", "refinedet_vgg16_320"),
    ],
)
def test_learning_rate_of_the_old_zoo_selects_its_recipe(line, config, folder, monkeypatch):
    monkeypatch.setattr(launch_table, "CONFIGS", ROOT / "configs")
    plan = plan_of(line, folder)
    assert plan.entry[1] == f"--config={ROOT}/configs/{config}.yaml"
    is_changed = config.endswith("_seed") and "_seed" not in line
    assert (f"using {config}.yaml" in plan.note) == is_changed
    assert (f"# {plan.note}\n" in launch.describe(plan)) == is_changed


@pytest.mark.parametrize("model", ["efficientdet_d0", "refinedet_vgg16_320", "yolov4"])
@pytest.mark.parametrize("script", ["run_standalone_train", "run_distribute_train", "run_eval"])
def test_usage_mentions_the_dataset_folder(script, model, capsys):
    assert run_command(launch.main, [script, model, "a", "b", "c", "d", "e", "f", "g", "h"]) == 2
    usage = [line for line in capsys.readouterr().err.splitlines() if line.startswith("usage: ")]
    assert usage and all("--data_dir DIR" in line if model != "yolov4" else "DATA_DIR " in line for line in usage)


def test_empty_argument_sets_no_flag(folder):
    assert flags_of(plan_of("run_distribute_train yolov4 d ''", folder), folder) == (
        "--data_dir=HERE/d --is_distributed=1"
    )


def test_config_of_the_user_uses_the_arguments_of_its_model(folder):
    (folder / "mine.yaml").write_text("model: refinedet\n")
    plan = plan_of("run_eval mine.yaml coco c.ckpt 0", folder)
    assert plan.entry[1] == f"--config={folder}/mine.yaml" and "--dataset=coco" in plan.entry


def test_old_classifier_config_with_every_script(folder):
    """It has `net` instead of `model`, and requests several processes, which only some scripts support."""
    (folder / "imagenet_config.yaml").write_text("net: darknet53\nrun_distributed: True\ndevice_num: ''\n")
    found = {
        line: flags_of(plan_of(line, folder), folder)
        for line in (
            "run_distribute_train_gpu imagenet_config.yaml imagenet2012 data",
            "run_standalone_train_gpu imagenet_config.yaml imagenet2012 data",
            "run_eval_gpu imagenet_config.yaml data w.ckpt",
        )
    }
    assert list(found.values()) == [
        "--dataset=imagenet2012 --data_dir=HERE/data --device_target=GPU --is_distributed=1",
        "--dataset=imagenet2012 --data_dir=HERE/data --device_target=GPU --is_distributed=0",
        "--data_dir=HERE/data --pretrained=HERE/w.ckpt --device_target=GPU",
    ]


def test_config_of_the_user_keeps_its_values_on_one_device(folder):
    (folder / "yolov4.yaml").write_text("model: yolov4\ntraining_shape: 640\n")
    plan = plan_of("run_standalone_train ./yolov4.yaml data w.ckpt", folder)
    assert flags_of(plan, folder) == "--data_dir=HERE/data --pretrained_backbone=HERE/w.ckpt"
