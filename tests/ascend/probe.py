"""Runs a case for a chip in its own process and reads from the record what MindSpore decided."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from msdet.tools.launcher.plan import Command, make_plan
from tests.ascend.cases import NETWORKS, ROOT, Case
from tests.ascend.stubs.build import Stubs

CHILD = Path(__file__).with_name("child.py")
TIME_LIMIT = 900
LAUNCHES = ("aclop", "aclnn", "ge", "rt", "hccl")
# Nodes in a GE graph that are not operators.
NOT_OPERATORS = {"Data", "RefData", "Const", "Constant", "Identity", "IdentityN", "NoOp"}
# Messages in the log of MindSpore, at the levels set by `_environment`.
BACKOFF = re.compile(r"Try to use backoff CPU kernel, node:\s*\S*?([^/\s]+?)-op\d+")
MISSING_ADAPTER = re.compile(r"Can't find OpAdapter for (\w+)")
MISSING_SYMBOL = re.compile(r"load symbol (\w+) failed|(\w+) (?:is )?not in \S*libopapi|undefined symbol: (\w+)")
_DATA_TYPE = r"(?:[fiuc]\d+|bf16|bool|str|unknown)"
# Operators with any number of inputs, in the interfaces that do not pass them as a list.
MANY_INPUTS = {"AddN", "Concat", "ConcatD", "Pack"}
# Attributes that are sizes or select a part of a tensor.
SIZES = ("N=", "value=", "begin_mask=", "ellipsis_mask=", "end_mask=", "new_axis_mask=", "shrink_axis_mask=")


@dataclass
class Step:
    """Requests of one step to the device.

    Attributes:
        launches: number by kind: aclop and aclnn (operators), ge_run (whole graphs), rt (MindSpore's own kernels),
            hccl.
        copies: number by direction: H2D, D2H, D2D, H2H.
        copied_bytes: by direction.
        waits: number of waits of the host by what it waits for: stream, device, event.
        names: of the launches, in order.
    """

    launches: Counter[str] = field(default_factory=Counter)
    copies: Counter[str] = field(default_factory=Counter)
    copied_bytes: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    names: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Probe:
    """What MindSpore decided about a case.

    Attributes:
        error: the exception that ended it, or the end of the output of a crashed process; else empty.
        backoffs: operators that run on the CPU because there is no kernel, with their number.
        missing_adapters: operators that cannot be converted for the graph engine, with their number. An error where
            that engine is used; elsewhere MindSpore tries it before it falls back to the CPU.
        missing_symbols: symbols that MindSpore did not find in the stubs, and errors recorded by the stubs.
        options: of the operator compiler, the overflow check and the graph engine.
        steps: in order.
        signatures: kind, name, data types and attributes of all operators.
        facts: results of the case itself.
        seconds: duration.
    """

    error: str
    backoffs: Mapping[str, int]
    missing_adapters: Mapping[str, int]
    missing_symbols: tuple[str, ...]
    options: Mapping[str, str]
    steps: Sequence[Step]
    signatures: frozenset[str]
    facts: Mapping[str, Any]
    seconds: float


def run_probe(stubs: Stubs, case: Case, chip: str, flags: Sequence[str] = ()) -> Probe:
    """Runs a case.

    Args:
        stubs: the stub libraries.
        case: the case to run.
        chip: name of the chip, e.g. Ascend910B2.
        flags: of the launcher, for the kind start.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ascend_probe_") as name:
        folder = Path(name)
        record, outcome = folder / "record.tsv", folder / "outcome.json"
        record.touch()
        variables = _environment(stubs, chip, record)
        if case.kind == "loop":
            make_dataset(folder / "data", case.network)
        code = _run(_command(case, folder, outcome, flags), variables, folder)
        output = "\n".join(path.read_text(errors="replace") for path in sorted(folder.rglob("*.txt")))
        output += "\n".join(path.read_text(errors="replace") for path in sorted(folder.rglob("worker_*.log")))
        found = json.loads(outcome.read_text()) if outcome.exists() else {"error": _tail_of(output, code), "facts": {}}
        lines = record.read_text().splitlines()
    return read_probe(lines, output, found, time.monotonic() - began)


def make_dataset(folder: Path, network: str) -> None:
    """Writes images for three steps: rendered shapes for a detector, folders of noise for a classifier."""
    import cv2
    import numpy as np

    from msdet.data.synthetic.shapes import render_shapes

    tiny = NETWORKS[network]
    if not tiny.model.endswith("darknet53"):
        render_shapes(folder, train=3 * tiny.batch_size, val=1, size=tiny.size)
        return
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in ("a", "b", "c"):
            (folder / split / label).mkdir(parents=True)
            for number in range(2):
                image = rng.integers(0, 255, (tiny.size, tiny.size, 3), np.uint8)
                cv2.imwrite(str(folder / split / label / f"{number}.png"), image)


def _environment(stubs: Stubs, chip: str, record: Path) -> dict[str, str]:
    variables = stubs.environment(chip, record)
    return {
        **variables,
        "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT), variables["PYTHONPATH"])),
        # Warnings, and the fallbacks of the plug-in; other modules would log megabytes at that level.
        "GLOG_v": "2",
        "MS_SUBMODULE_LOG_v": "{DEVICE:1}",
    }


def _command(case: Case, folder: Path, outcome: Path, flags: Sequence[str]) -> Command:
    entry = (str(CHILD), str(outcome), case.kind, case.network)
    if case.kind not in ("start", "ranks"):
        return Command((sys.executable, *entry))
    # The plan of the launcher, with the child instead of train.py.
    arguments = ["yolov3", "data", "weights.ckpt"]
    if case.network == "direct":
        plan = make_plan("run_standalone_train", [*arguments, *flags], folder)
    elif case.network == "rank_table":
        table = write_rank_table(folder / "table.json")
        plan = make_plan("run_distribute_train", [*arguments, str(table), *flags], folder)
    else:
        plan = make_plan("run_distribute_train", [*arguments, "--device_num=2", *flags], folder)
    plan.status_folder.mkdir(parents=True)
    return replace(plan, entry=(*entry, *plan.entry[1:], "--device_target=Ascend")).command()


def write_rank_table(path: Path) -> Path:
    """Writes a rank table with two devices of one server."""
    devices = [{"device_id": str(i), "device_ip": f"192.168.100.{i + 1}", "rank_id": str(i)} for i in range(2)]
    server = {"server_id": "10.0.0.1", "device": devices, "host_nic_ip": "reserve"}
    path.write_text(json.dumps({"version": "1.0", "server_count": "1", "server_list": [server], "status": "completed"}))
    return path


def _run(command: Command, variables: Mapping[str, str], folder: Path) -> int:
    """Runs a process in a folder; returns its exit code."""
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(
            command.argv,
            cwd=folder,
            env={**command.full_environment(), **variables},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        return process.wait(TIME_LIMIT)
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL
    finally:
        # Including its child processes.
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _tail_of(output: str, code: int) -> str:
    lines = [line for line in output.splitlines() if line and not re.match(r"\[(?:INFO|WARNING)\]", line)]
    return f"exit code {code}: {' / '.join(lines[-8:])}"


def read_probe(lines: Iterable[str], output: str, found: Mapping[str, Any], seconds: float) -> Probe:
    """Combines the record, the output of the processes and the outcome of the case."""
    options: dict[str, str] = {}
    signatures: set[str] = set()
    steps: list[Step] = []
    missing_symbols = {next(filter(None, names)) for names in MISSING_SYMBOL.findall(output)}
    for line in lines:
        kind, name, arguments, attributes = line.split("\t")
        if kind in LAUNCHES and name not in NOT_OPERATORS:
            signatures.add(signature(kind, name, arguments, attributes))
        if kind == "option":
            options[name] = attributes
        elif kind == "error":
            missing_symbols.add(f"{name} ({arguments})")
        elif kind == "mark":
            steps.append(Step())
        elif steps:
            _count(steps[-1], kind, name, arguments)
    return Probe(
        error=found["error"],
        backoffs=dict(Counter(BACKOFF.findall(output))),
        missing_adapters=dict(Counter(MISSING_ADAPTER.findall(output))),
        missing_symbols=tuple(sorted(missing_symbols)),
        options=options,
        steps=steps,
        signatures=frozenset(signatures),
        facts=found["facts"],
        seconds=seconds,
    )


def _count(step: Step, kind: str, name: str, arguments: str) -> None:
    if kind == "copy":
        step.copies[name] += 1
        step.copied_bytes[name] += int(arguments)
    elif kind == "wait":
        step.waits[name] += 1
    elif kind != "ge":
        # Operators of a graph are not launched on their own.
        step.launches[kind] += 1
        step.names.append(name)


def signature(kind: str, name: str, arguments: str, attributes: str) -> str:
    """A launch without what depends on the size of the network: shapes, values and lengths of lists."""
    text = re.sub(rf"({_DATA_TYPE})\[[^]]*\]", r"\1", arguments)
    # aclnn: i64:2 is a scalar, (1,2) a list of numbers, {f32 f32} one of tensors.
    text = re.sub(rf"({_DATA_TYPE}):\S+", r"\1", text)
    text = re.sub(r"\([^()]*\)", "(...)", text)
    text = re.sub(rf"\{{({_DATA_TYPE})(?: \1)*\}}", r"{\1...}", text)
    if name in MANY_INPUTS:
        text = re.sub(rf"\b({_DATA_TYPE})(?: \1)*(?= )", r"\1...", text)
    kept = [part for part in attributes.split() if not part.startswith(SIZES)]
    return " ".join([kind, name, text, *kept]).rstrip()
