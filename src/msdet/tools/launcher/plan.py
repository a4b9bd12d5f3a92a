"""From the arguments of a run_*.sh script to the commands that it starts."""

from __future__ import annotations

import os
import shlex
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from msdet.compat.aliases import flag_aliases
from msdet.config.model_table import model_table
from msdet.errors import UsageError
from msdet.tools.launcher.arguments import (
    ARGUMENTS,
    SCRIPTS,
    Script,
    family_of,
    find_config,
    for_rate,
    forms_of,
    match,
    model_in,
    standalone_flags,
    usage,
)
from msdet.tools.launcher.options import Options, own_options, split
from msdet.tools.launcher.rank_table import Place, read_place

ROOT = Path(__file__).resolve().parents[4]
_RANK_PY = Path(__file__).with_name("rank.py")
# The seeds' scripts start eight.
_DEVICES = 8


@dataclass(frozen=True)
class Command:
    """A process to start: its arguments, and what is set in its environment besides the launcher's own.

    `first_on_path` is a folder to be searched before those of PATH.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    first_on_path: str = ""

    def __str__(self) -> str:
        settings = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        if self.first_on_path:
            settings.append(f'PATH={shlex.quote(self.first_on_path)}:"$PATH"')
        return " ".join([*settings, shlex.join(self.argv)])

    def full_environment(self) -> dict[str, str]:
        """The environment to start it with."""
        path = os.environ.get("PATH", "")
        before = {"PATH": f"{self.first_on_path}{os.pathsep}{path}"} if self.first_on_path else {}
        return {**os.environ, **before, **self.environment}


@dataclass(frozen=True)
class Plan:
    """What a script starts.

    Attributes:
        script: its name; is_training: it can be continued.
        start: folder of the caller, in which the processes run.
        entry: entry script and its flags.
        ranks: numbers of the local ranks.
        log: path of their logs, {rank} for the number.
        notes: folder of the notes of `rank.py`.
        engine: "direct" for one rank, "msrun" or "mpirun".
        environment: set for what is started, besides that of the caller.
        options: the launcher's.
        continued: flags of the entry script with which a restart goes on.
        note: a sentence for the user on what was chosen; may be empty.
    """

    script: str
    is_training: bool
    start: Path
    entry: tuple[str, ...]
    ranks: tuple[int, ...]
    log: str
    notes: Path
    engine: str
    environment: Mapping[str, str]
    options: Options
    continued: tuple[str, ...] = ()
    note: str = ""

    def log_of(self, rank: int) -> Path:
        """The log of a rank."""
        return Path(self.log.replace("{rank}", str(rank)))

    def command(self) -> Command:
        """The process of one attempt; with a free port where none was named."""
        tail = (str(_RANK_PY), str(self.notes), self.log, *self.entry)
        if self.engine == "direct":
            return Command((sys.executable, *tail), self.environment)
        if self.engine == "mpirun":
            start = ("mpirun", "--allow-run-as-root", "-n", str(len(self.ranks)), sys.executable)
            return Command((*start, *tail), self.environment)
        # msrun starts "python" as it finds it.
        folder = str(Path(sys.executable).parent)
        return Command((_msrun(), *self._msrun_flags(), *tail), self.environment, folder)

    def _msrun_flags(self) -> tuple[str, ...]:
        options = self.options
        workers = options.worker_num or len(self.ranks)
        several = (f"--node_rank={options.node_rank}",) if workers > len(self.ranks) else ()
        return (
            f"--worker_num={workers}",
            f"--local_worker_num={len(self.ranks)}",
            f"--master_addr={options.master_addr}",
            f"--master_port={options.master_port or free_port()}",
            *several,
            f"--log_dir={self.notes / 'msrun'}",
            "--join=True",
            # A number that no rank has: the launcher shows the log of rank 0 itself.
            f"--tail_worker_log={workers}",
        )

    def resumed(self) -> Plan:
        """The plan that goes on from the newest checkpoint of this one."""
        return replace(self, entry=(self.entry[0], *self.continued))


def make_plan(script: str, arguments: Sequence[str], start: Path) -> Plan:
    """Reads the command line of a script.

    Args:
        script: a key of `SCRIPTS`.
        arguments: MODEL, the positional arguments, then flags.
        start: folder of the caller.

    Raises:
        UsageError: with the usage of the model where the number of arguments is wrong.
    """
    description = SCRIPTS[script]
    words, flags = split(arguments)
    if not words:
        raise UsageError(f"MODEL is missing\n{help_text(script, '', start)}")
    options, rest = own_options(flags)
    config = find_config(words[0], start)
    family = family_of(config)
    forms = forms_of(family, description.kind)
    named = match(words[1:], forms)
    if named is None:
        problem = f"{script}.sh: {len(words) - 1} arguments after {words[0]} do not fit: {shlex.join(words[1:])}"
        raise UsageError(f"{problem}\n{usage(script, words[0], forms)}")
    config, note = for_rate(config, named)
    plan = _Planner(script, description, config, family, named, options, rest, start).plan()
    return replace(plan, note=note)


def help_text(script: str, model: str, start: Path) -> str:
    """The usage of a script for a model, or without one in general."""
    if model:
        lines = usage(script, model, forms_of(family_of(find_config(model, start)), SCRIPTS[script].kind))
    else:
        lines = (
            f"usage: bash scripts/{script}.sh MODEL ARGUMENTS... [--dry_run] [--key value ...]\n"
            f"  bash scripts/{script}.sh MODEL --help prints the arguments of that model"
        )
    names = ", ".join(f"--{name}" for name in vars(Options()))
    return f"{lines}\n  options of the launcher: {names}; other flags go to {SCRIPTS[script].entry}"


class _Planner:
    """Puts one plan together."""

    def __init__(
        self,
        script: str,
        description: Script,
        config: Path,
        family: str,
        named: Mapping[str, str],
        options: Options,
        rest: Sequence[str],
        start: Path,
    ) -> None:
        self.script, self.description, self.config = script, description, config
        self.family, self.named, self.start = family, named, start
        self.options, self.rest = options, list(rest)
        model = next((m for m in model_table() if m == model_in(config)), "")
        self.aliases = flag_aliases(model, Path(description.entry).stem)
        self.typed = {self._key(word) for word in rest if word.startswith("--")}
        self.table: Place | None = None

    def plan(self) -> Plan:
        options = self._checked_options()
        several = self.description.kind == "distribute" or options.device_num > 1 or options.worker_num > 1
        engine = options.launcher or "msrun" if several else "direct"
        first = max(options.node_rank, 0) * options.device_num if several else 0
        ranks = tuple(range(first, first + options.device_num)) if several else (0,)
        log = self._log(several)
        # Notes lie beside the first log; acc.log has no folder of its own.
        beside = Path(log.replace("{rank}", str(ranks[0]))).parent
        notes = (beside / self.description.folder if self.description.kind == "infer" else beside) / "launch"
        flags = self._flags(log, ranks[0], several)
        entry = (str(ROOT / self.description.entry), *flags)
        return Plan(
            self.script, self.description.is_training, self.start, entry, ranks, log, notes, engine,
            self._environment(several), options, self._continued(flags),
        )  # fmt: skip

    def _checked_options(self) -> Options:
        options, named = self.options, self.named
        count = options.device_num or int(named.get("DEVICE_NUM") or 0)
        table = named.get("RANK_TABLE_FILE") or options.rank_table_file
        if table:
            self.table = read_place(self.start / table, count, options.worker_num, options.node_rank)
            options = self.table.options(options)
            count = options.device_num
        elif self.description.kind == "distribute" and not count:
            count = _DEVICES
        if self.description.kind == "standalone" and max(count, options.worker_num) > 1:
            raise UsageError(f"{self.script}.sh trains on one device; for several take run_distribute_train.sh")
        if options.launcher == "mpirun" and options.worker_num > count:
            raise UsageError("--launcher=mpirun serves one machine; for several take msrun")
        if options.worker_num > count:
            options = self._checked_machines(options, count)
        return replace(options, device_num=count)

    def _checked_machines(self, options: Options, count: int) -> Options:
        if not 0 <= options.node_rank < -(-options.worker_num // max(count, 1)):
            raise UsageError(
                f"--worker_num={options.worker_num} with --device_num={count} are several machines: give each its "
                "--node_rank (from 0), and all the --master_addr and --master_port of number 0"
            )
        if self.description.is_training and "run_name" not in self.typed:
            raise UsageError("several machines write into one run: give all the same --run_name")
        return options if options.master_port else replace(options, master_port=8118)

    def _environment(self, several: bool) -> dict[str, str]:
        if several:
            return self.table.environment() if self.table else {}
        return {"DEVICE_ID": self.named["DEVICE_ID"]} if self.named.get("DEVICE_ID") else {}

    def _log(self, several: bool) -> str:
        folder = self.description.folder
        if self.description.kind == "infer":
            return str(self.start / "acc.log")
        if self.family == "refinedet" and folder.startswith("train"):
            folder = "LOG"
        if several:
            folder += "{rank}"
        elif self.family == "refinedet" and folder in ("LOG", "eval"):
            folder += self.named.get("DEVICE_ID") or "0"
        return str(self.start / folder / "log.txt")

    def _flags(self, log: str, first: int, several: bool) -> list[str]:
        flags = {"config": str(self.config), **self._from_arguments(), **self.description.flags}
        if self.description.kind == "standalone":
            flags |= standalone_flags(self.config)
        if several:
            flags["is_distributed"] = "1"
        elif self.description.is_training and _is_for_several(self.config):
            flags["is_distributed"] = "0"
        folder = Path(log.replace("{rank}", str(first))).parent
        if self.description.is_training:
            flags["ckpt_path"] = str(folder / "outputs")
            if "resume" not in self.typed:
                # All ranks and all attempts write into one run, so its name is given here.
                flags["run_name"] = f"{datetime.now():%Y-%m-%d_time_%H_%M_%S}_{os.getpid()}"
        elif self.description.kind == "infer":
            flags["log_path"] = str(folder / self.description.folder)
            if self.named["MODEL_FILE"].endswith(".mindir") and self._device() in ("auto", "Ascend"):
                # MindSpore itself serves no Ascend 310.
                flags["runner"] = "mindspore_lite"
        else:
            flags["log_path"] = str(folder / "outputs") if self.description.kind == "test" else str(folder)
        own = [f"--{name}={value}" for name, value in flags.items() if self._key(f"--{name}") not in self.typed]
        return [*own, *self.rest]

    def _continued(self, flags: Sequence[str]) -> tuple[str, ...]:
        """The flags of a restart: from the newest checkpoint of the run, also of one that was itself continued."""
        resumed_from = self._typed_value("resume")
        where: tuple[str, ...] = ()
        if resumed_from not in ("", "auto"):
            # RUN/ckpt_RANK/FILE: train.py writes on into RUN.
            run = (self.start / Path(resumed_from).expanduser()).parent.resolve().parent
            where = (f"--ckpt_path={run.parent}", f"--run_name={run.name}")
        replaced = {"resume", "ckpt_path", "run_name"} if where else {"resume"}
        kept = [word for words in _grouped(flags) if self._key(words[0]) not in replaced for word in words]
        return (*kept, *where, "--resume=auto")

    def _typed_value(self, name: str) -> str:
        """What was typed for a key; the last one counts."""
        values = [words for words in _grouped(self.rest) if self._key(words[0]) == name]
        if not values:
            return ""
        flag, equals, value = values[-1][0].partition("=")
        return value if equals else "".join(values[-1][1:2])

    def _device(self) -> str:
        return self._typed_value("device_target") or os.environ.get("MSDET_DEVICE") or "auto"

    def _from_arguments(self) -> dict[str, str]:
        flags = {}
        for name, given in self.named.items():
            argument = ARGUMENTS[name]
            if argument.flag and given:
                flags[argument.flag] = str(self.start / given) if argument.is_path else given
        if self.named.get("DEVICE_ID"):
            flags["device_id"] = self.named["DEVICE_ID"]
        if "DATA_PATH" in self.named:
            flags |= self._data_path(self.start / self.named["DATA_PATH"])
        return flags

    def _data_path(self, folder: Path) -> dict[str, str]:
        """The seeds' DATA_PATH is the folder of the images; a folder of the whole data set is taken as well."""
        holds_classes = self.family.endswith("darknet53") and not (folder / "val").is_dir()
        if self.named.get("ANN_FILE") or holds_classes:
            return {"val_image_dir": str(folder)}
        if not (folder / "annotations").is_dir() and (folder.parent / "annotations").is_dir():
            return {"data_dir": str(folder.parent), "val_image_dir": str(folder)}
        return {"data_dir": str(folder)}

    def _key(self, flag: str) -> str:
        """The key behind a flag's name."""
        name = flag.removeprefix("--").split("=")[0]
        return self.aliases.get(name, name)


def _is_for_several(config: Path) -> bool:
    """Whether a file asks for several processes, under one of the names for it."""
    from msdet.config.yaml_file import read_layers

    names = {"is_distributed", *(old for old, name in flag_aliases("", "").items() if name == "is_distributed")}
    said = [str(setting.raw) for layer in read_layers(str(config)) for setting in layer if setting.name in names]
    return bool(said) and said[-1].lower() in ("true", "1", "yes", "on")


def _grouped(flags: Sequence[str]) -> list[list[str]]:
    """Each flag with the words that follow it."""
    groups: list[list[str]] = []
    for word in flags:
        if word.startswith("--") or not groups:
            groups.append([])
        groups[-1].append(word)
    return groups


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def _msrun() -> str:
    beside = Path(sys.executable).parent / "msrun"
    return str(beside) if beside.exists() else "msrun"
