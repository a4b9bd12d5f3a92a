"""Reads the rank table of the old model zoo for msrun.

MindSpore 2.10 cannot start ranks from a rank table ("does not support ranktable startup, please use msrun"; msrun's
--rank_table_file starts no ranks either), and detects the addresses of the devices by itself. The table still defines
the number of ranks, their machines and their devices.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from msdet.errors import UsageError
from msdet.tools.hccl_tools import read_rank_table, servers_of
from msdet.tools.launcher.options import Options


@dataclass(frozen=True)
class Node:
    """The part of a rank table for one machine.

    Attributes:
        number: of the machine; machines are counted in the order of their ranks.
        devices: device ids, in the order of their ranks.
        worker_num: ranks on all machines.
        master: address of machine 0, where the ranks connect.
    """

    number: int
    devices: tuple[int, ...]
    worker_num: int
    master: str

    def options(self, typed: Options) -> Options:
        """The launcher's options completed from the table; a typed master address takes precedence."""
        options = replace(typed, device_num=len(self.devices), worker_num=self.worker_num)
        if self.worker_num == len(self.devices):
            return options
        is_typed = typed.master_addr != Options().master_addr
        return replace(options, node_rank=self.number, master_addr=typed.master_addr if is_typed else self.master)

    def environment(self) -> dict[str, str]:
        """Makes only these devices visible: msrun assigns the i-th visible device to rank i of a machine."""
        return {"ASCEND_RT_VISIBLE_DEVICES": ",".join(map(str, self.devices))}


def read_node(path: Path, device_num: int, worker_num: int, node_rank: int) -> Node:
    """Reads the part of a rank table for this machine.

    Args:
        path: of the table.
        device_num, worker_num: requested processes on this machine, and on all machines; 0: as in the table.
        node_rank: number of this machine; -1: not given.

    Raises:
        UserError: the file is not a rank table.
        UsageError: it contradicts the options, or msrun cannot start it.
    """
    servers = servers_of(read_rank_table(path))
    if len(servers) > 1 and node_rank < 0:
        ids = ", ".join(f"{number} = {server['server_id']}" for number, server in enumerate(servers))
        raise UsageError(f"{path} has {len(servers)} servers: select this one with --node_rank ({ids})")
    node = max(node_rank, 0)
    if node >= len(servers):
        raise UsageError(f"--node_rank={node}, but {path} has {len(servers)} servers, counted from 0")
    counts = [len(server["device"]) for server in servers]
    if len(set(counts)) > 1:
        raise UsageError(
            f"{path} gives its servers {', '.join(map(str, counts))} devices; msrun, which starts the ranks, needs "
            "the same number on each"
        )
    ranked = sorted(servers[node]["device"], key=lambda device: int(device["rank_id"]))
    if device_num and device_num != len(ranked):
        raise UsageError(
            f"{device_num} devices were requested, but {path} has {len(ranked)} for {servers[node]['server_id']}"
        )
    if worker_num and worker_num != sum(counts):
        raise UsageError(f"--worker_num={worker_num}, but {path} has {sum(counts)} ranks")
    devices = tuple(int(device["device_id"]) for device in ranked)
    return Node(node, devices, sum(counts), str(servers[0]["server_id"]))
