"""What a rank table of the old model zoo says to msrun.

MindSpore 2.10 starts no ranks from such a table any more ("does not support ranktable startup, please use msrun"), and
needs no addresses of cards: it finds them by itself. What is left of the table is how many ranks there are, on which
machines and on which of their cards.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from msdet.errors import UsageError
from msdet.tools.hccl_tools import read_rank_table, servers_of
from msdet.tools.launcher.options import Options


@dataclass(frozen=True)
class Place:
    """The part of one machine in a rank table.

    Attributes:
        node: its number; machines are counted in the order of their ranks.
        devices: numbers of its cards, in the order of their ranks.
        worker_num: ranks on all machines.
        master: address of number 0, where the ranks meet.
    """

    node: int
    devices: tuple[int, ...]
    worker_num: int
    master: str

    def options(self, typed: Options) -> Options:
        """The launcher's options with what the table says; a typed address of the master wins."""
        options = replace(typed, device_num=len(self.devices), worker_num=self.worker_num)
        if self.worker_num == len(self.devices):
            return options
        is_typed = typed.master_addr != Options().master_addr
        return replace(options, node_rank=self.node, master_addr=typed.master_addr if is_typed else self.master)

    def environment(self) -> dict[str, str]:
        """Shows the processes these cards alone: msrun gives rank i of a machine the i-th that it sees."""
        return {"ASCEND_RT_VISIBLE_DEVICES": ",".join(map(str, self.devices))}


def read_place(path: Path, device_num: int, worker_num: int, node_rank: int) -> Place:
    """Reads what a rank table gives this machine.

    Args:
        path: of the table.
        device_num, worker_num: processes that were asked for on this machine, on all; 0: as many as the table has.
        node_rank: number of this machine; -1: not given.

    Raises:
        UserError: the file is no rank table.
        UsageError: it does not fit what was typed, or msrun could not start it.
    """
    servers = servers_of(read_rank_table(path))
    if len(servers) > 1 and node_rank < 0:
        ids = ", ".join(f"{number} = {server['server_id']}" for number, server in enumerate(servers))
        raise UsageError(f"{path} has {len(servers)} servers: say which this one is with --node_rank ({ids})")
    node = max(node_rank, 0)
    if node >= len(servers):
        raise UsageError(f"--node_rank={node}, but {path} has {len(servers)} servers, counted from 0")
    counts = [len(server["device"]) for server in servers]
    if len(set(counts)) > 1:
        raise UsageError(
            f"{path} gives its servers {', '.join(map(str, counts))} devices; msrun, which starts the ranks, needs "
            "equally many on each"
        )
    ranked = sorted(servers[node]["device"], key=lambda device: int(device["rank_id"]))
    if device_num and device_num != len(ranked):
        raise UsageError(
            f"{device_num} devices were asked for, but {path} gives {servers[node]['server_id']} {len(ranked)}"
        )
    if worker_num and worker_num != sum(counts):
        raise UsageError(f"--worker_num={worker_num}, but {path} has {sum(counts)} ranks")
    devices = tuple(int(device["device_id"]) for device in ranked)
    return Place(node, devices, sum(counts), str(servers[0]["server_id"]))
