"""Plans: processes, logs and flags for every documented command line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from msdet.config import load_config
from msdet.errors import UsageError
from msdet.tools.launcher import arguments as launch_table
from tests.tools.launcher.old_zoo_commands import DISTRIBUTED, STANDALONE, flags_of, plan_of

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.usefixtures("folder")


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


def test_evaluation_on_several_devices(folder):
    plan = plan_of("run_eval yolov4 d c --device_num 2", folder)
    assert plan.engine == "msrun" and "--is_distributed=1" in plan.entry
    assert str(plan.log_path(1)) == str(folder / "eval1" / "log.txt")


def test_annotations_are_found_next_to_the_image_folder(folder):
    (folder / "coco" / "annotations").mkdir(parents=True)
    plan = plan_of("run_infer_310 refinedet r.mindir coco/val2017", folder)
    assert flags_of(plan, folder).endswith("--data_dir=HERE/coco --val_image_dir=HERE/coco/val2017")


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
