"""Rank tables: written, merged and validated."""

import json

import pytest

from msdet.errors import UserError, run_command
from msdet.tools import hccl_tools


def run(*arguments):
    return run_command(hccl_tools.main, [str(argument) for argument in arguments])


@pytest.fixture
def conf(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [f"address_{i}=192.168.1.{100 + i}\nnetmask_{i}=255.255.255.0\n" for i in range(8)]
    path = tmp_path / "hccn.conf"
    path.write_text("".join(lines))
    return path


def test_table_of_eight_devices(conf, tmp_path, capsys):
    assert run("--device_num", "[0,8)", "--server_ip", "10.0.0.1", "--hccn_conf", conf) == 0
    path = tmp_path / "hccl_8p_01234567_10.0.0.1.json"
    assert capsys.readouterr().out == f"{path.name}\n"
    table = json.loads(path.read_text())
    assert (table["version"], table["server_count"], table["status"]) == ("1.0", "1", "completed")
    (server,) = table["server_list"]
    assert server["server_id"] == "10.0.0.1" and server["host_nic_ip"] == "reserve"
    assert server["device"] == [
        {"device_id": str(i), "device_ip": f"192.168.1.{100 + i}", "rank_id": str(i)} for i in range(8)
    ]
    assert hccl_tools.read_rank_table(path) == table


def test_visible_devices(conf, tmp_path):
    arguments = ("--device_num", "[0-2)", "--visible_devices", "4,5,6", "--server_ip", "10.0.0.1", "--hccn_conf", conf)
    assert run(*arguments, "--output", tmp_path / "t.json") == 0
    (server,) = hccl_tools.read_rank_table(tmp_path / "t.json")["server_list"]
    assert [(d["device_id"], d["rank_id"]) for d in server["device"]] == [("4", "0"), ("5", "1")]
    assert server["device"][0]["device_ip"] == "192.168.1.104"


def test_given_device_addresses_and_detected_server_address(tmp_path, capsys):
    assert run("--device_num", "[2,6)", "--device_ips", "10.1.1.1,10.1.1.2,10.1.1.3,10.1.1.4", "--output",
               tmp_path / "t.json") == 0  # fmt: skip
    assert "0-3" in capsys.readouterr().err
    (server,) = hccl_tools.read_rank_table(tmp_path / "t.json")["server_list"]
    assert server["device"][0]["device_id"] == "2" and server["device"][3]["device_ip"] == "10.1.1.4"


def write_table(path, server, addresses):
    assert run("--device_num", f"[0,{len(addresses)})", "--server_ip", server, "--device_ips", ",".join(addresses),
               "--output", path) == 0  # fmt: skip
    return path


def test_tables_of_two_servers_are_merged(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    one = write_table(tmp_path / "1.json", "10.0.0.1", ["1.1.1.1", "1.1.1.2"])
    two = write_table(tmp_path / "2.json", "10.0.0.2", ["1.1.2.1", "1.1.2.2"])
    assert run("--merge", two, one) == 0
    table = hccl_tools.read_rank_table(tmp_path / "hccl_2s_4p.json")
    assert table["server_count"] == "2"
    assert [(s["server_id"], [d["rank_id"] for d in s["device"]]) for s in table["server_list"]] == [
        ("10.0.0.2", ["0", "1"]), ("10.0.0.1", ["2", "3"])
    ]  # fmt: skip
    capsys.readouterr()
    assert run("--merge", one, one, "--output", tmp_path / "no.json") == 1
    assert "contains server 10.0.0.1 twice" in capsys.readouterr().err and not (tmp_path / "no.json").exists()
    same = write_table(tmp_path / "3.json", "10.0.0.3", ["1.1.1.1", "1.1.2.2"])
    assert run("--merge", one, same, "--output", tmp_path / "no.json") == 1
    assert "1.1.1.1 twice" in capsys.readouterr().err


INVALID_ARGUMENTS = {
    "invalid interval": (["--device_num", "0-8"], 2, '"[0,8)"'),
    "an empty interval": (["--device_num", "[3,3)"], 2, "must be increasing"),
    "too many devices": (["--device_num", "[0,17)"], 2, "16"),
    "no file": (["--hccn_conf", "none.conf"], 1, "--device_ips"),
    "a device without address": (["--device_num", "[0,9)", "--hccn_conf", "hccn.conf"], 1, "no address for device 8"),
    "too few addresses": (["--device_ips", "1.1.1.1"], 2, "1 addresses for 8 devices"),
    "no address": (
        ["--device_num", "[0,2)", "--device_ips", "1.1.1.1,1.1.1"],
        1,
        "'1.1.1', which is not an IP address",
    ),
    "one address twice": (["--device_num", "[0,2)", "--device_ips", "1.1.1.1,1.1.1.1"], 1, "twice"),
    "no server address": (["--server_ip", "server", "--hccn_conf", "hccn.conf"], 2, "server is not an IP address"),
    "too few visible devices": (["--visible_devices", "0,1", "--hccn_conf", "hccn.conf"], 2, "at least 8"),
}


@pytest.mark.parametrize("name", INVALID_ARGUMENTS)
def test_invalid_arguments(name, conf, tmp_path, capsys):
    arguments, code, fragment = INVALID_ARGUMENTS[name]
    assert run(*arguments, "--output", tmp_path / "t.json") == code
    assert fragment in capsys.readouterr().err and not (tmp_path / "t.json").exists()


def test_hccn_conf_without_addresses(tmp_path, capsys):
    (tmp_path / "empty.conf").write_text("netmask_0=255.255.255.0\n")
    assert run("--hccn_conf", tmp_path / "empty.conf") == 1
    assert "no line like address_0" in capsys.readouterr().err


INVALID_TABLES = {
    "no table": ({"group_list": []}, "server_list"),
    "a wrong count": (lambda t: t.update(server_count="3"), "server_count"),
    "not completed": (lambda t: t.update(status="initializing"), "status"),
    "ranks with a gap": (lambda t: t["server_list"][0]["device"][1].update(rank_id="5"), "consecutive from 0"),
    "a rank that is not a number": (lambda t: t["server_list"][0]["device"][1].pop("rank_id"), "device[1]"),
    "a device twice": (lambda t: t["server_list"][0]["device"][1].update(device_id="0"), "device 0 twice"),
    "a server without devices": (lambda t: t["server_list"][0].update(device=[]), "server_list[0]"),
}


@pytest.mark.parametrize("name", INVALID_TABLES)
def test_invalid_table_is_reported(name, tmp_path):
    change, fragment = INVALID_TABLES[name]
    table = json.loads(write_table(tmp_path / "t.json", "10.0.0.1", ["1.1.1.1", "1.1.1.2"]).read_text())
    if isinstance(change, dict):
        table = change
    else:
        change(table)
    (tmp_path / "t.json").write_text(json.dumps(table))
    with pytest.raises(UserError, match="t.json") as error:
        hccl_tools.read_rank_table(tmp_path / "t.json")
    assert fragment in str(error.value)
