"""Writes the rank table of an Ascend server, and merges the tables of several servers.

    msdet hccl_tools --device_num "[0,8)"                     on each server
    msdet hccl_tools --merge hccl_8p_*_10.0.0.1.json hccl_8p_*_10.0.0.2.json

The addresses of the devices are read from /etc/hccn.conf (lines `address_0=192.168.100.101`) or given by --device_ips.
MindSpore 2 does not need a table; the launchers use it only to select devices.
"""

from __future__ import annotations

import argparse
import ipaddress
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msdet.errors import UsageError, UserError
from msdet.files import read_json, write_json

HCCN_CONF = Path("/etc/hccn.conf")
_MAX_DEVICES = 16


def device_range(text: str) -> range:
    """The devices of an interval: "[0,8)" is 0 to 7.

    Raises:
        UsageError: invalid interval.
    """
    found = re.fullmatch(r"\[\s*(\d+)\s*[,-]\s*(\d+)\s*\)", text.strip())
    if not found:
        raise UsageError(f'--device_num is {text!r}; it takes an interval like "[0,8)", which means 0 to 7')
    first, end = int(found[1]), int(found[2])
    if not first < end <= _MAX_DEVICES:
        raise UsageError(f"--device_num {text} must be increasing and end at {_MAX_DEVICES} or less")
    return range(first, end)


def read_hccn_conf(path: Path) -> dict[int, str]:
    """Device number -> address, from a file with lines `address_0=192.168.100.101`.

    Raises:
        UserError: the file cannot be read, or contains no address.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read: {reason}. Pass the addresses with --device_ips A,B,...") from error
    addresses = {int(number): address for number, address in re.findall(r"(?m)^\s*address_(\d+)\s*=\s*(\S+)", text)}
    if not addresses:
        raise UserError(f"{path} has no line like address_0=192.168.100.101; pass the addresses with --device_ips")
    return addresses


def make_server(server_id: str, devices: Sequence[int], addresses: Mapping[int, str]) -> dict[str, Any]:
    """One entry of `server_list`, with ranks from 0.

    Raises:
        UserError: a device has no address.
    """
    missing = [device for device in devices if device not in addresses]
    if missing:
        raise UserError(f"there is no address for device {missing[0]}, only for {sorted(addresses)}")
    entries = [
        {"device_id": str(device), "device_ip": addresses[device], "rank_id": str(rank)}
        for rank, device in enumerate(devices)
    ]
    return {"server_id": server_id, "device": entries, "host_nic_ip": "reserve"}


def make_table(servers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A rank table of the servers, with consecutive new rank ids."""
    rank = 0
    renumbered = []
    for server in servers:
        devices = [{**device, "rank_id": str(rank + i)} for i, device in enumerate(server["device"])]
        renumbered.append({**server, "device": devices})
        rank += len(devices)
    return {
        "version": "1.0",
        "server_count": str(len(renumbered)),
        "server_list": renumbered,
        "status": "completed",
    }


def read_rank_table(path: Path) -> dict[str, Any]:
    """Reads and checks a rank table.

    Raises:
        UserError: the file is not a rank table, or one that HCCL would reject; the message names the entry.
    """
    table = read_json(path)
    for place, text in _problems(table):
        raise UserError(f"{path}: {place} {text}")
    return table


def servers_of(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The servers of a checked table, in the order of their ranks."""
    return sorted(table["server_list"], key=lambda server: min(int(device["rank_id"]) for device in server["device"]))


def _problems(table: Any) -> Sequence[tuple[str, str]]:
    if not isinstance(table, dict) or not isinstance(table.get("server_list"), list) or not table["server_list"]:
        return [("the table", 'has no "server_list": it is not a rank table of version 1.0')]
    found = []
    if str(table.get("server_count", len(table["server_list"]))) != str(len(table["server_list"])):
        found.append(("server_count", f"is {table['server_count']}, with {len(table['server_list'])} servers"))
    if table.get("status", "completed") != "completed":
        found.append(("status", f"is {table['status']!r}, not 'completed'"))
    ranks: list[int] = []
    ips: list[str] = []
    for i, server in enumerate(table["server_list"]):
        found += _server_problems(server, f"server_list[{i}]", ranks, ips)
    names = [server.get("server_id") for server in table["server_list"] if isinstance(server, dict)]
    found += [("server_list", f"contains server {name} twice") for name in _repeated(names)]
    found += [("server_list", f"contains address {ip} twice") for ip in _repeated(ips)]
    if not found and sorted(ranks) != list(range(len(ranks))):
        found.append(("server_list", f"has ranks {sorted(ranks)}; they must be consecutive from 0"))
    return found


def _server_problems(server: Any, place: str, ranks: list[int], ips: list[str]) -> list[tuple[str, str]]:
    devices = server.get("device") if isinstance(server, dict) else None
    if not isinstance(devices, list) or not devices or not server.get("server_id"):
        return [(place, 'lacks "server_id" or a list "device"')]
    found = []
    for k, device in enumerate(devices):
        where = f"{place}.device[{k}]"
        fields = device if isinstance(device, dict) else {}
        if not all(str(fields.get(name, "")).isdigit() for name in ("device_id", "rank_id")):
            found.append((where, 'needs "device_id" and "rank_id", each a number'))
            continue
        ranks.append(int(fields["rank_id"]))
        # A single device needs no address.
        if "device_ip" in fields or len(devices) > 1:
            ip = fields.get("device_ip", "")
            ips.append(ip)
            if not _is_address(ip):
                found.append((where, f"has device_ip {ip!r}, which is not an IP address"))
    numbers = [str(device.get("device_id")) for device in devices if isinstance(device, dict)]
    return found + [(place, f"contains device {number} twice") for number in _repeated(numbers)]


def _repeated(items: Sequence[Any]) -> list[Any]:
    return [item for i, item in enumerate(items) if item and item in items[:i]]


def _is_address(text: Any) -> bool:
    try:
        ipaddress.ip_address(str(text))
    except ValueError:
        return False
    return True


def own_address() -> str:
    """The address of this machine on its default route; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("10.255.255.255", 1))
            return probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="msdet hccl_tools",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device_num", default="[0,8)", help='interval of devices (default "[0,8)": 0 to 7)')
    parser.add_argument(
        "--visible_devices", default="", help="physical numbers of devices 0, 1, ... (default: the same numbers)"
    )
    parser.add_argument("--server_ip", default="", help="address of this server (default: detected)")
    parser.add_argument("--hccn_conf", type=Path, default=HCCN_CONF, help=f"default {HCCN_CONF}")
    parser.add_argument("--device_ips", default="", help="addresses of the devices in order, instead of hccn_conf")
    parser.add_argument("--merge", nargs="+", type=Path, metavar="FILE", help="tables to merge, in order")
    parser.add_argument("--output", type=Path, help="output file (default: hccl_... in the current folder)")
    return parser


def _own_table(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    wanted = device_range(args.device_num)
    visible = [word.strip() for word in args.visible_devices.split(",") if word.strip()]
    if visible and not (all(word.isdigit() for word in visible) and len(visible) >= wanted.stop):
        raise UsageError(f"--visible_devices {args.visible_devices} must list at least {wanted.stop} devices")
    devices = [int(visible[i]) if visible else i for i in wanted]
    if args.device_ips:
        ips = [word.strip() for word in args.device_ips.split(",")]
        if len(ips) != len(devices):
            raise UsageError(f"--device_ips has {len(ips)} addresses for {len(devices)} devices")
        addresses = dict(zip(devices, ips, strict=True))
    else:
        addresses = read_hccn_conf(args.hccn_conf)
    server = args.server_ip or own_address()
    if not _is_address(server):
        raise UsageError(f"--server_ip {server} is not an IP address")
    if 1 < len(devices) < 8 and len({device // 4 for device in devices}) > 1:
        sys.stderr.write(
            "note: on servers with eight Ascend 910A, fewer than eight devices must all lie within 0-3 or 4-7\n"
        )
    name = f"hccl_{len(devices)}p_{''.join(map(str, devices))}_{server}.json"
    return make_table([make_server(server, devices, addresses)]), name


def _merged_table(paths: Sequence[Path]) -> tuple[dict[str, Any], str]:
    servers = [server for path in paths for server in servers_of(read_rank_table(path))]
    table = make_table(servers)
    count = sum(len(server["device"]) for server in servers)
    return table, f"hccl_{len(servers)}s_{count}p.json"


def main(argv: Sequence[str]) -> int:
    args = _parser().parse_args(argv)
    table, name = _merged_table(args.merge) if args.merge else _own_table(args)
    path = args.output or Path(name)
    for place, text in _problems(table):
        raise UserError(f"the table would be invalid: {place} {text}; nothing was written")
    write_json(path, table)
    sys.stdout.write(f"{path}\n")
    return 0
