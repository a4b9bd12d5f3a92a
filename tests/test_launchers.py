"""The run_*.sh scripts: dry runs of every command line in the documentation of the old model zoo, with MODEL added."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from msdet.config import load_config
from msdet.errors import UsageError, UserError, run_command
from msdet.tools.launcher import arguments as launch_table
from msdet.tools.launcher import launch
from msdet.tools.launcher.plan import make_plan

ROOT = Path(__file__).resolve().parents[1]
MODELS = (
    "yolov3", "yolov3_quant", "yolov4", "efficientdet_d0", "refinedet_vgg16_320", "refinedet_resnet101_512",
    "darknet53_imagenet", "cspdarknet53_imagenet",
)  # fmt: skip


def rank_table(path: Path, *devices: int) -> Path:
    """Writes a table with the given number of devices on each server."""
    rank, servers = 0, []
    for number, count in enumerate(devices):
        entries = []
        for device in range(count):
            entries.append(
                {"device_id": str(device), "device_ip": f"192.168.{number}.{device + 1}", "rank_id": str(rank)}
            )
            rank += 1
        servers.append({"server_id": f"10.0.0.{number + 1}", "device": entries, "host_nic_ip": "reserve"})
    table = {"version": "1.0", "server_count": str(len(servers)), "server_list": servers, "status": "completed"}
    path.write_text(json.dumps(table))
    return path


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder of the caller, with rank tables under the documented names; configs/ is next to it."""
    configs = tmp_path / "configs"
    configs.mkdir()
    for model in MODELS:
        (configs / f"{model}.yaml").write_text(f"model: {model}\n")
    monkeypatch.setattr(launch_table, "CONFIGS", configs)
    here = tmp_path / "here"
    here.mkdir()
    for name in ("rank_table_8p.json", "hccl_rank_tabel_8p.json"):
        rank_table(here / name, 8)
    monkeypatch.setenv("LAUNCH_FROM", str(here))
    return here


# Script and arguments -> flags of the entry script (HERE: the caller's folder), and the first log.
STANDALONE = {
    "run_standalone_train yolov4 dataset/xxx cspdarknet53_backbone.ckpt": (
        "--data_dir=HERE/dataset/xxx --pretrained_backbone=HERE/cspdarknet53_backbone.ckpt --training_shape=416 "
        "--warmup_epochs=4", "train/log.txt"),
    "run_standalone_train yolov4 dataset/coco2017 cspdarknet53_backbone.ckpt --warmup_epochs 2": (
        "--data_dir=HERE/dataset/coco2017 --pretrained_backbone=HERE/cspdarknet53_backbone.ckpt --training_shape=416 "
        "--warmup_epochs 2", "train/log.txt"),
    "run_standalone_train yolov4 dataset/xxx cspdarknet53_backbone.ckpt 3": (
        "--data_dir=HERE/dataset/xxx --pretrained_backbone=HERE/cspdarknet53_backbone.ckpt --device_id=3 "
        "--training_shape=416 --warmup_epochs=4", "train/log.txt"),
    "run_standalone_train yolov3_quant dataset/coco2014 yolov3_darknet53_noquant.ckpt": (
        "--data_dir=HERE/dataset/coco2014 --pretrained=HERE/yolov3_darknet53_noquant.ckpt --lr=0.004",
        "train/log.txt"),
    "run_standalone_train efficientdet_d0 4": ("--device_id=4", "train/log.txt"),
    "run_standalone_train efficientdet_d0": ("", "train/log.txt"),
    "run_standalone_train efficientdet": ("", "train/log.txt"),
    "run_standardalone_train refinedet 0 500 0.05 coco": (
        "--max_epoch=500 --lr=0.05 --dataset=coco --device_id=0", "LOG0/log.txt"),
    "run_standardalone_train refinedet_resnet101_512 2 500 0.05 voc pre/trained.ckpt 200": (
        "--max_epoch=500 --lr=0.05 --dataset=voc --pretrained=HERE/pre/trained.ckpt --pre_trained_epoch_size=200 "
        "--device_id=2", "LOG2/log.txt"),
    "run_standardalone_train_gpu refinedet 0 5 0.02 coco": (
        "--max_epoch=5 --lr=0.02 --dataset=coco --device_id=0 --device_target=GPU", "LOG0/log.txt"),
    "run_standalone_train_gpu darknet53 imagenet2012 data/imagenet": (
        "--dataset=imagenet2012 --data_dir=HERE/data/imagenet --device_target=GPU", "train/log.txt"),
    "run_standalone_train_gpu darknet53 imagenet2012 /data/imagenet ck.ckpt": (
        "--dataset=imagenet2012 --data_dir=/data/imagenet --pretrained=HERE/ck.ckpt --device_target=GPU",
        "train/log.txt"),
    "run_standalone_train cspdarknet53 2 data/imagenet": (
        "--data_dir=HERE/data/imagenet --device_id=2", "train/log.txt"),
    "run_eval yolov4 dataset/xxx checkpoint/xxx.ckpt": (
        "--data_dir=HERE/dataset/xxx --pretrained=HERE/checkpoint/xxx.ckpt", "eval/log.txt"),
    "run_eval yolov4 dataset/coco2017 checkpoint/yolov4.ckpt": (
        "--data_dir=HERE/dataset/coco2017 --pretrained=HERE/checkpoint/yolov4.ckpt", "eval/log.txt"),
    "run_eval yolov3_quant dataset/coco2014/ checkpoint/yolov3_quant.ckpt 0": (
        "--data_dir=HERE/dataset/coco2014 --pretrained=HERE/checkpoint/yolov3_quant.ckpt --device_id=0",
        "eval/log.txt"),
    "run_eval yolov3_quant dataset/coco2014/ checkpoint/0-130_83330.ckpt 0": (
        "--data_dir=HERE/dataset/coco2014 --pretrained=HERE/checkpoint/0-130_83330.ckpt --device_id=0",
        "eval/log.txt"),
    "run_eval efficientdet_d0 checkpoint/effdet_d0.ckpt 0": (
        "--pretrained=HERE/checkpoint/effdet_d0.ckpt --device_id=0", "eval/log.txt"),
    "run_eval refinedet coco ./ckpt/refinedet.ckpt 0": (
        "--dataset=coco --pretrained=HERE/ckpt/refinedet.ckpt --device_id=0", "eval0/log.txt"),
    "run_eval_gpu refinedet coco ../ckpt/ckpt_0/refinedet-500_458.ckpt 0": (
        "--dataset=coco --pretrained=HERE/../ckpt/ckpt_0/refinedet-500_458.ckpt --device_id=0 --device_target=GPU",
        "eval0/log.txt"),
    "run_eval_gpu darknet53 data/imagenet ck.ckpt": (
        "--data_dir=HERE/data/imagenet --pretrained=HERE/ck.ckpt --device_target=GPU", "eval/log.txt"),
    "run_eval cspdarknet53 1 data/imagenet ck.ckpt": (
        "--data_dir=HERE/data/imagenet --pretrained=HERE/ck.ckpt --device_id=1", "eval/log.txt"),
    "run_test yolov4 dataset/coco2017 checkpoint/yolov4.ckpt": (
        "--data_dir=HERE/dataset/coco2017 --pretrained=HERE/checkpoint/yolov4.ckpt", "test/log.txt"),
    "run_infer_310 yolov4 y.mindir val2017 0 instances_val2017.json": (
        "--pretrained=HERE/y.mindir --val_ann_file=HERE/instances_val2017.json --device_id=0 "
        "--val_image_dir=HERE/val2017", "acc.log"),
    "run_infer_310 yolov4 y.mindir val2017 instances_val2017.json": (
        "--pretrained=HERE/y.mindir --val_ann_file=HERE/instances_val2017.json --val_image_dir=HERE/val2017",
        "acc.log"),
    "run_infer_310 yolov3_quant q.mindir val2014 a.json image_shape.npy image_id.npy 2": (
        "--pretrained=HERE/q.mindir --val_ann_file=HERE/a.json --image_shape=HERE/image_shape.npy "
        "--image_id=HERE/image_id.npy --device_id=2 --val_image_dir=HERE/val2014", "acc.log"),
    "run_infer_310 cspdarknet53 c.mindir imagenet/val 3": (
        "--pretrained=HERE/c.mindir --device_id=3 --val_image_dir=HERE/imagenet/val", "acc.log"),
    "run_infer_310 refinedet r.mindir coco2017 5": (
        "--pretrained=HERE/r.mindir --device_id=5 --data_dir=HERE/coco2017", "acc.log"),
    "run_infer_310 refinedet r.mindir coco2017": (
        "--pretrained=HERE/r.mindir --data_dir=HERE/coco2017", "acc.log"),
}  # fmt: skip

# ... and the number of ranks, and what starts them.
DISTRIBUTED = {
    "run_distribute_train yolov4 dataset/xxx cspdarknet53_backbone.ckpt rank_table_8p.json": (
        "--data_dir=HERE/dataset/xxx --pretrained_backbone=HERE/cspdarknet53_backbone.ckpt",
        "train_parallel{rank}", 8, "rank_table_8p.json"),
    "run_distribute_train yolov4 dataset/coco2017 cspdarknet53_backbone.ckpt": (
        "--data_dir=HERE/dataset/coco2017 --pretrained_backbone=HERE/cspdarknet53_backbone.ckpt",
        "train_parallel{rank}", 8, "msrun"),
    "run_distribute_train yolov3_quant dataset/coco2014 yolov3_darknet53_noquant.ckpt rank_table_8p.json": (
        "--data_dir=HERE/dataset/coco2014 --pretrained=HERE/yolov3_darknet53_noquant.ckpt",
        "train_parallel{rank}", 8, "rank_table_8p.json"),
    "run_distribute_train efficientdet_d0 rank_table_8p.json": ("", "train_parallel{rank}", 8, "rank_table_8p.json"),
    "run_distribute_train efficientdet_d0": ("", "train_parallel{rank}", 8, "msrun"),
    "run_distribute_train refinedet 8 500 0.05 coco ./hccl_rank_tabel_8p.json": (
        "--max_epoch=500 --lr=0.05 --dataset=coco", "LOG{rank}", 8, "hccl_rank_tabel_8p.json"),
    "run_distribute_train refinedet 8 500 0.05 coco ./hccl_rank_tabel_8p.json p.ckpt 200": (
        "--max_epoch=500 --lr=0.05 --dataset=coco --pretrained=HERE/p.ckpt --pre_trained_epoch_size=200",
        "LOG{rank}", 8, "hccl_rank_tabel_8p.json"),
    "run_distribute_train refinedet 4 500 0.05 coco": (
        "--max_epoch=500 --lr=0.05 --dataset=coco", "LOG{rank}", 4, "msrun"),
    "run_distribute_train_gpu refinedet 8 500 0.05 coco": (
        "--max_epoch=500 --lr=0.05 --dataset=coco --device_target=GPU", "LOG{rank}", 8, "msrun"),
    "run_distribute_train_gpu refinedet 8 500 0.05 coco p.ckpt 200": (
        "--max_epoch=500 --lr=0.05 --dataset=coco --pretrained=HERE/p.ckpt --pre_trained_epoch_size=200 "
        "--device_target=GPU", "LOG{rank}", 8, "msrun"),
    "run_distribute_train_gpu darknet53 imagenet2012 data/imagenet": (
        "--dataset=imagenet2012 --data_dir=HERE/data/imagenet --device_target=GPU", "train_parallel{rank}", 8, "msrun"),
    "run_distribute_train_gpu darknet53 imagenet2012 data/imagenet ck.ckpt --launcher mpirun": (
        "--dataset=imagenet2012 --data_dir=HERE/data/imagenet --pretrained=HERE/ck.ckpt --device_target=GPU",
        "train_parallel{rank}", 8, "mpirun"),
    "run_distribute_train cspdarknet53 rank_table_8p.json data/imagenet": (
        "--data_dir=HERE/data/imagenet", "train_parallel{rank}", 8, "rank_table_8p.json"),
}  # fmt: skip

# Flags that the launcher adds.
PLACES = ("--config=", "--ckpt_path=", "--run_name=", "--log_path=")


def plan_of(line: str, here: Path):
    script, *arguments = shlex.split(line)
    return make_plan(script.replace("standardalone", "standalone"), arguments, here)


def flags_of(plan, here: Path) -> str:
    flags = [flag for flag in plan.entry[1:] if not flag.startswith(PLACES)]
    return " ".join(flags).replace(str(here), "HERE")


@pytest.mark.parametrize("line", STANDALONE)
def test_single_process_commands(line, folder):
    flags, log = STANDALONE[line]
    plan = plan_of(line, folder)
    assert flags_of(plan, folder) == flags
    assert plan.engine == "direct" and plan.ranks == (0,)
    assert str(plan.log_path(0)) == str(folder / log)
    command = plan.command()
    assert command.argv[:2] == (sys.executable, str(ROOT / "src" / "msdet" / "tools" / "launcher" / "rank.py"))
    assert command.environment.get("DEVICE_ID", "") == flags.partition("--device_id=")[2].split(" ")[0]


@pytest.mark.parametrize("line", DISTRIBUTED)
def test_distributed_commands(line, folder):
    flags, log, count, engine = DISTRIBUTED[line]
    plan = plan_of(line, folder)
    assert flags_of(plan, folder) == f"{flags} --is_distributed=1".strip()
    assert plan.ranks == tuple(range(count))
    assert [str(plan.log_path(rank)) for rank in plan.ranks] == [
        str(folder / log.replace("{rank}", str(rank)) / "log.txt") for rank in range(count)
    ]
    command = plan.command()
    if engine == "mpirun":
        assert command.argv[:5] == ("mpirun", "--allow-run-as-root", "-n", "8", sys.executable)
        return
    assert Path(command.argv[0]).name == "msrun"
    assert f"--worker_num={count}" in command.argv and f"--local_worker_num={count}" in command.argv
    assert "--join=True" in command.argv and not [word for word in command.argv if "node_rank" in word]
    assert command.first_on_path == str(Path(sys.executable).parent)
    cards = {"ASCEND_RT_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"} if engine.endswith(".json") else {}
    assert command.environment == cards and not [word for word in command.argv if ".json" in word]


@pytest.mark.parametrize("line", [*STANDALONE, *DISTRIBUTED])
def test_entry_scripts_accept_the_flags(line, folder, monkeypatch):
    """The entry script accepts the flags, with the config of this repository."""
    monkeypatch.setattr(launch_table, "CONFIGS", ROOT / "configs")
    plan = plan_of(line, folder)
    config, *flags = plan.entry[1:]
    load_config(config.removeprefix("--config="), flags, Path(plan.entry[0]).stem)


def test_output_folders_are_next_to_the_log(folder):
    plan = plan_of("run_distribute_train yolov4 d b --device_num 2", folder)
    assert f"--ckpt_path={folder}/train_parallel0/outputs" in plan.entry
    assert f"--log_path={folder}/eval" in plan_of("run_eval yolov4 d c", folder).entry
    assert f"--log_path={folder}/test/outputs" in plan_of("run_test yolov4 d c", folder).entry
    mine = plan_of("run_standalone_train yolov4 d b --ckpt_path=/x --run_name r --device_target=CPU --lr 0.1", folder)
    assert mine.entry[-5:] == ("--ckpt_path=/x", "--run_name", "r", "--device_target=CPU", "--lr", "0.1")[-5:]
    assert len([flag for flag in mine.entry if flag.startswith("--ckpt_path")]) == 1


def test_restart_resumes_the_same_run(folder):
    plan = plan_of("run_distribute_train yolov4 d b --device_num 2 --max_restarts 3", folder)
    assert plan.options.max_restarts == 3
    again = plan.resumed()
    assert again.entry == (*plan.entry, "--resume=auto") and again.resumed().entry == again.entry
    line = "run_standalone_train yolov4 d b --resume auto --lr 1"
    assert plan_of(line, folder).resumed().entry[-3:] == ("--lr", "1", "--resume=auto")


@pytest.mark.parametrize(
    "flags",
    [
        "--resume old/runs/mine/ckpt_0/yolov4-3_30.ckpt --lr 1",
        "--resume=../here/old/runs/mine/ckpt_0/yolov4-3_30.ckpt --lr=1 --run_name=r",
        "--resume auto --resume=old/runs/mine/ckpt_0/x.state.json --ckpt_path d",
    ],
)
def test_restart_of_a_resumed_run(flags, folder):
    """train.py --resume FILE continues the run of FILE, which contains the newest checkpoint."""
    plan = plan_of(f"run_standalone_train yolov4 d b {flags}", folder)
    again = plan.resumed()
    cfg = load_config(ROOT / "configs" / "yolov4.yaml", again.entry[2:])
    assert (cfg.ckpt_path, cfg.run_name, cfg.resume) == (str(folder / "old" / "runs"), "mine", "auto")
    assert cfg.lr == load_config(ROOT / "configs" / "yolov4.yaml", plan.entry[2:]).lr
    assert again.resumed().entry == again.entry


def test_restart_with_old_flag_names(folder):
    flags = "--save_checkpoint_path=elsewhere --resume run/ckpt_0/e.ckpt"
    plan = plan_of(f"run_standalone_train efficientdet_d0 {flags}", folder).resumed()
    assert not [word for word in plan.entry if "elsewhere" in word]
    assert plan.entry[-3:] == (f"--ckpt_path={folder}", "--run_name=run", "--resume=auto")


def test_several_machines(folder):
    line = "run_distribute_train yolov4 d b --worker_num 16 --node_rank 1 --master_addr 10.0.0.1 --run_name r"
    plan = plan_of(line, folder)
    assert plan.ranks == tuple(range(8, 16))
    argv = plan.command().argv
    for flag in ("--worker_num=16", "--local_worker_num=8", "--master_addr=10.0.0.1", "--master_port=8118",
                 "--node_rank=1"):  # fmt: skip
        assert flag in argv
    with pytest.raises(UsageError, match="--node_rank"):
        plan_of("run_distribute_train yolov4 d b --worker_num 16", folder)
    with pytest.raises(UsageError, match="--run_name"):
        plan_of("run_distribute_train yolov4 d b --worker_num 16 --node_rank 0", folder)


def test_rank_table_of_several_servers(folder):
    rank_table(folder / "two.json", 4, 4)
    line = "run_distribute_train efficientdet_d0 two.json --run_name r"
    plan = plan_of(f"{line} --node_rank 1", folder)
    assert plan.ranks == (4, 5, 6, 7)
    command = plan.command()
    for flag in ("--worker_num=8", "--local_worker_num=4", "--node_rank=1", "--master_port=8118"):
        assert flag in command.argv
    assert "--master_addr=10.0.0.1" in command.argv
    mine = plan_of(f"{line} --node_rank 1 --master_addr 10.9.9.9 --master_port 9000", folder).command().argv
    assert "--master_addr=10.9.9.9" in mine and "--master_port=9000" in mine
    for flags, problem in {
        "": "--node_rank",
        "--node_rank 2": "counted from 0",
        "--node_rank 1 --device_num 8": "8 devices were requested",
        "--node_rank 1 --worker_num 16": "has 8 ranks",
    }.items():
        with pytest.raises(UsageError, match=problem):
            plan_of(f"{line} {flags}", folder)
    with pytest.raises(UsageError, match="same --run_name"):
        plan_of("run_distribute_train efficientdet_d0 two.json --node_rank 0", folder)
    with pytest.raises(UserError, match=r"none\.json"):
        plan_of("run_distribute_train efficientdet_d0 none.json", folder)
    rank_table(folder / "uneven.json", 8, 4)
    with pytest.raises(UsageError, match="gives its servers 8, 4 devices"):
        plan_of("run_distribute_train efficientdet_d0 uneven.json --run_name r --node_rank 1", folder)


def test_devices_are_in_the_order_of_the_ranks(folder):
    table = json.loads(rank_table(folder / "some.json", 3).read_text())
    for device, (card, rank) in zip(table["server_list"][0]["device"], [(6, 1), (2, 0), (4, 2)], strict=True):
        device.update(device_id=str(card), rank_id=str(rank))
    (folder / "some.json").write_text(json.dumps(table))
    plan = plan_of("run_distribute_train yolov4 d b some.json", folder)
    assert plan.ranks == (0, 1, 2)
    assert plan.command().environment == {"ASCEND_RT_VISIBLE_DEVICES": "2,6,4"}


def test_evaluation_on_several_devices(folder):
    plan = plan_of("run_eval yolov4 d c --device_num 2", folder)
    assert plan.engine == "msrun" and "--is_distributed=1" in plan.entry
    assert str(plan.log_path(1)) == str(folder / "eval1" / "log.txt")


def test_annotations_are_found_next_to_the_image_folder(folder):
    (folder / "coco" / "annotations").mkdir(parents=True)
    plan = plan_of("run_infer_310 refinedet r.mindir coco/val2017", folder)
    assert flags_of(plan, folder).endswith("--data_dir=HERE/coco --val_image_dir=HERE/coco/val2017")


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
    "run_eval yolov4 d c --stall_timeout -3": ["not negative"],
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


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_scripts_run_from_any_folder(shell, tmp_path):
    """One real call per shell: paths are relative to the caller's folder, and links to scripts work."""
    here = tmp_path / "a folder"
    here.mkdir()
    environment = {**os.environ, "PYTHON": sys.executable}
    script = ROOT / "scripts" / ("run_eval.sh" if shell == "sh" else "run_standardalone_train.sh")
    done = subprocess.run(
        [shell, str(script), "yolov3", "data", "w.ckpt", "0", "--dry_run"],
        cwd=here, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"cd {shlex.quote(str(here))}" and f"--data_dir={here}/data" in done.stdout
    assert lines[1].startswith("DEVICE_ID=0 ") and lines[-1].startswith("# log: ")
    assert not list(here.iterdir()), "a dry run writes no files"
    wrong = subprocess.run(
        [shell, str(script), "yolov3"],
        cwd=here, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert wrong.returncode == 2 and "usage: bash scripts/run_" in wrong.stderr


def test_python_without_the_packages_is_skipped(tmp_path):
    """An active conda environment may not be the one with MindSpore."""
    conda, path = tmp_path / "conda" / "bin", tmp_path / "bin"
    for place, option in ((conda, "-S"), (path, "")):  # without site, no packages are found
        place.mkdir(parents=True)
        for name in ("python", "python3"):
            (place / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {option} "$@"\n')
            (place / name).chmod(0o755)
    clone = tmp_path / "clone"
    (clone / "scripts").mkdir(parents=True)
    for name in ("launch.sh", "run_eval.sh"):
        (clone / "scripts" / name).symlink_to(ROOT / "scripts" / name)
    for name in ("src", "configs", "eval.py"):
        (clone / name).symlink_to(ROOT / name)

    def call(**environment):
        kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHON")}
        return subprocess.run(
            ["bash", str(clone / "scripts" / "run_eval.sh"), "yolov3", "data", "w.ckpt", "--dry_run"],
            env={**kept, "CONDA_PREFIX": str(conda.parent), **environment},
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    done = call(PATH=f"{path}:{os.environ['PATH']}")
    assert done.returncode == 0 and "eval.py" in done.stdout, done.stderr
    none = call(PATH=f"{conda}:{os.environ['PATH']}")
    assert none.returncode == 1 and "Traceback" not in none.stderr
    for text in (str(conda / "python"), str(conda / "python3"), "quickstart.sh", "requirements.txt"):
        assert text in none.stderr
    named = call(PYTHON=str(conda / "python"), PATH=f"{path}:{os.environ['PATH']}")
    assert named.returncode == 1 and f"tried: {conda / 'python'}\n" in named.stderr


def test_all_scripts_are_known_and_executable():
    scripts = {path.stem for path in (ROOT / "scripts").glob("run_*.sh") if not path.is_symlink()}
    assert scripts == set(launch_table.SCRIPTS)
    for path in (ROOT / "scripts").glob("run_*.sh"):
        assert os.access(path, os.X_OK)


@pytest.mark.parametrize(
    ("line", "device", "runner"),
    [
        ("run_infer_310 yolov4 y.mindir val2017", "", "--runner=mindspore_lite"),
        ("run_infer_310 yolov4 y.mindir val2017 --device_target Ascend", "", "--runner=mindspore_lite"),
        ("run_infer_310 yolov4 y.mindir val2017", "CPU", ""),
        ("run_infer_310 yolov4 y.mindir val2017 --device_target CPU", "", ""),
        ("run_infer_310 yolov4 y.mindir val2017 --runner mindspore", "", ""),
        ("run_infer_310 yolov4 y.om val2017", "", ""),
        ("run_infer_310 yolov4 y.onnx val2017", "", ""),
    ],
)
def test_mindspore_lite_runs_a_mindir_on_310(line, device, runner, folder, monkeypatch):
    """MindSpore itself does not support the Ascend 310."""
    monkeypatch.setenv("MSDET_DEVICE", device)
    flags = [flag for flag in plan_of(line, folder).entry if flag.startswith("--runner=")]
    assert flags == ([runner] if runner else [])


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
