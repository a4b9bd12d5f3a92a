"""The launcher's own options among the arguments and flags of the entry script."""

import pytest

from msdet.errors import UsageError
from msdet.tools.launcher.options import Options, parse_options, split_arguments


def test_positional_arguments_come_before_flags():
    assert split_arguments(["yolov4", "data", "--lr", "0.1"]) == (["yolov4", "data"], ["--lr", "0.1"])
    assert split_arguments(["--dry_run", "yolov4", "--lr=1"]) == (["yolov4"], ["--lr=1", "--dry_run=1"])
    assert split_arguments(["yolov4", "--dry-run"]) == (["yolov4"], ["--dry_run=1"])


def test_other_flags_keep_their_order_and_values():
    flags = ["--lr", "-0.1", "--device_num", "2", "--lr_epochs=1,2", "--dry_run=True", "--text", "two words"]
    options, rest = parse_options(flags)
    assert options == Options(device_num=2, dry_run=True)
    assert rest == ["--lr", "-0.1", "--lr_epochs=1,2", "--text", "two words"]


def test_options_are_not_abbreviated():
    assert parse_options(["--device", "2", "--node=1"]) == (Options(), ["--device", "2", "--node=1"])


def test_types():
    options, _ = parse_options(["--stall_timeout", "2.5", "--launcher=mpirun", "--node_rank", "0", "--dry_run=0"])
    assert options == Options(stall_timeout=2.5, launcher="mpirun", node_rank=0)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max_restarts", "two"], "--max_restarts: invalid int value: 'two'"),
        (["--max_restarts"], "--max_restarts: expected one argument"),
        (["--launcher=slurm"], "--launcher: invalid choice: 'slurm'"),
        (["--max_restarts=-1"], "--max_restarts is -1: it must not be negative"),
        (["--node_rank=-2"], "--node_rank is -2"),
    ],
)
def test_invalid_options(flags, message):
    with pytest.raises(UsageError, match=message):
        parse_options(flags)
