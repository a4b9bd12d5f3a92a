"""Rank tables that select devices and machines."""

from __future__ import annotations

import json

import pytest

from msdet.errors import UsageError, UserError
from tests.tools.launcher.old_zoo_commands import plan_of, rank_table

pytestmark = pytest.mark.usefixtures("folder")


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
