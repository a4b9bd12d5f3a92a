"""Plans what a run_*.sh script starts, from its arguments."""

from __future__ import annotations

import os
import shlex
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path

from msdet.compat.aliases import flag_aliases
from msdet.config.model_table import model_table
from msdet.errors import UsageError
from msdet.tools.launcher.arguments import (
    ARGUMENTS,
    SCRIPTS,
    Script,
    config_for_rate,
    family_of,
    find_config,
    match_arguments,
    model_in,
    signatures_of,
    standalone_flags,
    usage,
)
from msdet.tools.launcher.options import Options, parse_options, split_arguments
from msdet.tools.launcher.rank_table import Node, read_node

ROOT = Path(__file__).resolve().parents[4]
_RANK_PY = Path(__file__).with_name("rank.py")
# As in the scripts of the old model zoo.
_DEFAULT_DEVICES = 8
# The default of msrun; with several machines all must use the same port.
_MULTI_NODE_PORT = 8118


@dataclass(frozen=True)
class Command:
    """A process to start: its arguments and additional environment variables.

    `first_on_path` is a folder that is searched before those of PATH.
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
        """All environment variables of the process."""
        path = os.environ.get("PATH", "")
        first = {"PATH": f"{self.first_on_path}{os.pathsep}{path}"} if self.first_on_path else {}
        return {**os.environ, **first, **self.environment}


@dataclass(frozen=True)
class Plan:
    """What a script starts.

    Attributes:
        is_training: a failed run can be resumed.
        working_folder: folder of the caller, in which the processes run.
        entry: entry script and its flags.
        ranks: numbers of the local ranks.
        log_pattern: path of the logs; {rank} stands for the number of the rank.
        status_folder: for the status files of `rank.py`.
        engine: "direct" for a single process, "msrun" or "mpirun".
        environment: additional environment variables.
        options: the launcher's options.
        resume_flags: flags of the entry script for a restart.
        note: a message for the user about an automatic choice; may be empty.
    """

    is_training: bool
    working_folder: Path
    entry: tuple[str, ...]
    ranks: tuple[int, ...]
    log_pattern: str
    status_folder: Path
    engine: str
    environment: Mapping[str, str]
    options: Options
    resume_flags: tuple[str, ...] = ()
    note: str = ""

    def log_path(self, rank: int) -> Path:
        """The log of a rank."""
        return Path(self.log_pattern.replace("{rank}", str(rank)))

    def command(self) -> Command:
        """The process of one attempt; uses a free port unless one is given."""
        rank_command = (str(_RANK_PY), str(self.status_folder), self.log_pattern, *self.entry)
        if self.engine == "direct":
            return Command((sys.executable, *rank_command), self.environment)
        if self.engine == "mpirun":
            mpirun = ("mpirun", "--allow-run-as-root", "-n", str(len(self.ranks)), sys.executable)
            return Command((*mpirun, *rank_command), self.environment)
        # msrun starts "python", as found on PATH.
        python_folder = str(Path(sys.executable).parent)
        return Command((_msrun(), *self._msrun_flags(), *rank_command), self.environment, python_folder)

    def _msrun_flags(self) -> tuple[str, ...]:
        options = self.options
        workers = options.worker_num or len(self.ranks)
        return (
            f"--worker_num={workers}",
            f"--local_worker_num={len(self.ranks)}",
            f"--master_addr={options.master_addr}",
            f"--master_port={options.master_port or free_port()}",
            *((f"--node_rank={options.node_rank}",) if workers > len(self.ranks) else ()),
            f"--log_dir={self.status_folder / 'msrun'}",
            "--join=True",
            # The number of no rank: the launcher prints the log of the first rank itself.
            f"--tail_worker_log={workers}",
        )

    def resumed(self) -> Plan:
        """The plan that resumes from the newest checkpoint of this one."""
        return replace(self, entry=(self.entry[0], *self.resume_flags))


def make_plan(script: str, arguments: Sequence[str], caller_folder: Path) -> Plan:
    """Parses the command line of a script.

    Args:
        script: a key of `SCRIPTS`.
        arguments: MODEL, the positional arguments, then flags.
        caller_folder: relative paths start from it.

    Raises:
        UsageError: with the usage of the model if the positional arguments do not match.
    """
    words, flags = split_arguments(arguments)
    if not words:
        raise UsageError(f"MODEL is missing\n{help_text(script, '', caller_folder)}")
    options, rest = parse_options(flags)
    config = find_config(words[0], caller_folder)
    family = family_of(config)
    signatures = signatures_of(family, SCRIPTS[script].kind)
    named = match_arguments(words[1:], signatures)
    if named is None:
        problem = f"{script}.sh: {len(words) - 1} arguments after {words[0]} do not match: {shlex.join(words[1:])}"
        raise UsageError(f"{problem}\n{usage(script, words[0], signatures)}")
    config, note = config_for_rate(config, named)
    return replace(_Planner(script, config, family, named, options, rest, caller_folder).plan(), note=note)


def help_text(script: str, model: str, caller_folder: Path) -> str:
    """The usage of a script, for one model or in general."""
    if model:
        signatures = signatures_of(family_of(find_config(model, caller_folder)), SCRIPTS[script].kind)
        lines = usage(script, model, signatures)
    else:
        lines = (
            f"usage: bash scripts/{script}.sh MODEL ARGUMENTS... [--dry_run] [--key value ...]\n"
            f"  bash scripts/{script}.sh MODEL --help prints the arguments of that model"
        )
    names = ", ".join(f"--{name}" for name in vars(Options()))
    return f"{lines}\n  options of the launcher: {names}; other flags go to {SCRIPTS[script].entry}"


@dataclass
class _Planner:
    """Makes a plan from parsed arguments.

    Attributes:
        script: a key of `SCRIPTS`.
        config, family: of the model.
        named: positional arguments by name.
        options, flags: the launcher's, and those of the entry script.
        folder: of the caller.
    """

    script: str
    config: Path
    family: str
    named: Mapping[str, str]
    options: Options
    flags: list[str]
    folder: Path
    node: Node | None = None

    @property
    def description(self) -> Script:
        return SCRIPTS[self.script]

    @cached_property
    def aliases(self) -> Mapping[str, str]:
        """Key by old flag name of the model."""
        model = next((m for m in model_table() if m == model_in(self.config)), "")
        return flag_aliases(model, Path(self.description.entry).stem)

    @cached_property
    def typed_keys(self) -> set[str]:
        return {self._key(word) for word in self.flags if word.startswith("--")}

    def plan(self) -> Plan:
        options = self._complete_options()
        is_distributed = self.description.kind == "distribute" or options.device_num > 1 or options.worker_num > 1
        engine = options.launcher or "msrun" if is_distributed else "direct"
        first = max(options.node_rank, 0) * options.device_num if is_distributed else 0
        ranks = tuple(range(first, first + options.device_num)) if is_distributed else (0,)
        log = self._log_pattern(is_distributed)
        # The status folder is next to the first log; acc.log has no folder of its own.
        log_folder = Path(log.replace("{rank}", str(ranks[0]))).parent
        run_folder = log_folder / self.description.folder if self.description.kind == "infer" else log_folder
        flags = self._entry_flags(log_folder, is_distributed)
        return Plan(
            is_training=self.description.is_training,
            working_folder=self.folder,
            entry=(str(ROOT / self.description.entry), *flags),
            ranks=ranks,
            log_pattern=log,
            status_folder=run_folder / "launch",
            engine=engine,
            environment=self._environment(is_distributed),
            options=options,
            resume_flags=self._resume_flags(flags),
        )

    def _complete_options(self) -> Options:
        """Checks the options and completes them from the arguments and the rank table."""
        options, named = self.options, self.named
        count = options.device_num or int(named.get("DEVICE_NUM") or 0)
        table = named.get("RANK_TABLE_FILE") or options.rank_table_file
        if table:
            self.node = read_node(self.folder / table, count, options.worker_num, options.node_rank)
            options = self.node.options(options)
            count = options.device_num
        elif self.description.kind == "distribute" and not count:
            count = _DEFAULT_DEVICES
        if self.description.kind == "standalone" and max(count, options.worker_num) > 1:
            raise UsageError(f"{self.script}.sh trains on one device; use run_distribute_train.sh for several")
        if options.worker_num > count:
            options = self._complete_multi_node(options, count)
        return replace(options, device_num=count)

    def _complete_multi_node(self, options: Options, count: int) -> Options:
        if options.launcher == "mpirun":
            raise UsageError("--launcher=mpirun supports one machine; use msrun for several")
        if not 0 <= options.node_rank < -(-options.worker_num // max(count, 1)):
            raise UsageError(
                f"--worker_num={options.worker_num} with --device_num={count} needs several machines: pass its own "
                "--node_rank (from 0) on each, and the --master_addr and --master_port of machine 0 on all"
            )
        if self.description.is_training and "run_name" not in self.typed_keys:
            raise UsageError("several machines write to one run: pass the same --run_name on all of them")
        return options if options.master_port else replace(options, master_port=_MULTI_NODE_PORT)

    def _environment(self, is_distributed: bool) -> dict[str, str]:
        if is_distributed:
            return self.node.environment() if self.node else {}
        return {"DEVICE_ID": self.named["DEVICE_ID"]} if self.named.get("DEVICE_ID") else {}

    def _log_pattern(self, is_distributed: bool) -> str:
        folder = self.description.folder
        if self.description.kind == "infer":
            return str(self.folder / "acc.log")
        if self.family == "refinedet" and folder.startswith("train"):
            folder = "LOG"
        if is_distributed:
            folder += "{rank}"
        elif self.family == "refinedet" and folder in ("LOG", "eval"):
            folder += self.named.get("DEVICE_ID") or "0"
        return str(self.folder / folder / "log.txt")

    def _entry_flags(self, log_folder: Path, is_distributed: bool) -> list[str]:
        """The flags of the entry script; typed flags override the others."""
        flags = {"config": str(self.config), **self._flags_from_arguments(), **self.description.flags}
        if self.description.kind == "standalone":
            flags |= standalone_flags(self.config)
        if is_distributed:
            flags["is_distributed"] = "1"
        elif self.description.is_training and _is_distributed_config(self.config):
            flags["is_distributed"] = "0"
        if self.description.is_training:
            flags["ckpt_path"] = str(log_folder / "outputs")
            if "resume" not in self.typed_keys:
                # All ranks and all attempts write to one run, so its name is chosen here.
                flags["run_name"] = f"{datetime.now():%Y-%m-%d_time_%H_%M_%S}_{os.getpid()}"
        elif self.description.kind == "infer":
            flags["log_path"] = str(log_folder / self.description.folder)
            if self.named["MODEL_FILE"].endswith(".mindir") and self._device() in ("auto", "Ascend"):
                # MindSpore itself does not support the Ascend 310.
                flags["runner"] = "mindspore_lite"
        else:
            flags["log_path"] = str(log_folder / "outputs") if self.description.kind == "test" else str(log_folder)
        own = [f"--{name}={value}" for name, value in flags.items() if self._key(f"--{name}") not in self.typed_keys]
        return [*own, *self.flags]

    def _resume_flags(self, flags: Sequence[str]) -> tuple[str, ...]:
        """The flags of a restart: resumes the newest checkpoint of the run, also if the run was itself resumed."""
        resumed_from = self._typed_value("resume")
        run_flags: tuple[str, ...] = ()
        if resumed_from not in ("", "auto"):
            # RUN/ckpt_RANK/FILE: train.py continues to write to RUN.
            run = (self.folder / Path(resumed_from).expanduser()).parent.resolve().parent
            run_flags = (f"--ckpt_path={run.parent}", f"--run_name={run.name}")
        replaced = {"resume", "ckpt_path", "run_name"} if run_flags else {"resume"}
        kept = [word for words in _group_flags(flags) if self._key(words[0]) not in replaced for word in words]
        return (*kept, *run_flags, "--resume=auto")

    def _typed_value(self, name: str) -> str:
        """The last typed value of a key; empty if there is none."""
        values = [words for words in _group_flags(self.flags) if self._key(words[0]) == name]
        if not values:
            return ""
        _, equals, value = values[-1][0].partition("=")
        return value if equals else "".join(values[-1][1:2])

    def _device(self) -> str:
        return self._typed_value("device_target") or os.environ.get("MSDET_DEVICE") or "auto"

    def _flags_from_arguments(self) -> dict[str, str]:
        flags = {}
        for name, value in self.named.items():
            argument = ARGUMENTS[name]
            if argument.flag and value:
                flags[argument.flag] = str(self.folder / value) if argument.is_path else value
        if self.named.get("DEVICE_ID"):
            flags["device_id"] = self.named["DEVICE_ID"]
        if "DATA_PATH" in self.named:
            flags |= self._data_path_flags(self.folder / self.named["DATA_PATH"])
        return flags

    def _data_path_flags(self, folder: Path) -> dict[str, str]:
        """In the old scripts, DATA_PATH is the image folder; the folder of a whole dataset is accepted too."""
        has_class_folders = self.family.endswith("darknet53") and not (folder / "val").is_dir()
        if self.named.get("ANN_FILE") or has_class_folders:
            return {"val_image_dir": str(folder)}
        if not (folder / "annotations").is_dir() and (folder.parent / "annotations").is_dir():
            return {"data_dir": str(folder.parent), "val_image_dir": str(folder)}
        return {"data_dir": str(folder)}

    def _key(self, flag: str) -> str:
        """The key that a flag sets."""
        name = flag.removeprefix("--").split("=")[0]
        return self.aliases.get(name, name)


def _is_distributed_config(config: Path) -> bool:
    """Whether a config sets `is_distributed`, also by an old name."""
    from msdet.config.yaml_file import read_layers

    names = {"is_distributed", *(old for old, name in flag_aliases("", "").items() if name == "is_distributed")}
    values = [str(setting.raw) for layer in read_layers(str(config)) for setting in layer if setting.name in names]
    return bool(values) and values[-1].lower() in ("true", "1", "yes", "on")


def _group_flags(flags: Sequence[str]) -> list[list[str]]:
    """Each flag with its values."""
    groups: list[list[str]] = []
    for word in flags:
        if word.startswith("--") or not groups:
            groups.append([])
        groups[-1].append(word)
    return groups


def free_port() -> int:
    """A TCP port that is not in use."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def _msrun() -> str:
    installed = Path(sys.executable).parent / "msrun"
    return str(installed) if installed.exists() else "msrun"
