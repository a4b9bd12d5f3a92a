"""Device, processes, seeds and logging of one run."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mindspore as ms

from src.errors import UserError

if TYPE_CHECKING:
    from src.config import Config

LOG_FORMAT = "%(asctime)s:%(levelname)s:%(message)s"


@dataclass(frozen=True)
class Runtime:
    """Where this process runs.

    Attributes:
        device: "CPU", "GPU" or "Ascend".
        rank, group_size: number of this process, and of all.
    """

    device: str
    rank: int = 0
    group_size: int = 1

    @property
    def is_master(self) -> bool:
        return self.rank == 0


def start(cfg: Config) -> Runtime:
    """Chooses the device and the execution mode, joins the other processes and seeds the generators.

    Raises:
        UserError: the device is not there, or the processes were not started by a launcher.
    """
    device = ms.get_context("device_target") if cfg.device_target == "auto" else cfg.device_target
    ms.set_context(mode=ms.GRAPH_MODE if cfg.mode == "graph" else ms.PYNATIVE_MODE)
    try:
        # MindSpore refuses to be told a device once it has computed, even the one it uses. CPU has no number, and
        # in a distributed run a card's number is given by the launcher.
        if device != "CPU" and not cfg.is_distributed:
            ms.set_device(device, cfg.device_id)
        elif device != ms.get_context("device_target"):
            ms.set_device(device)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"device_target {device} is not usable here: {str(error).splitlines()[0]}\n"
            "Run `python -m src.tools.doctor` to see what this machine has, or set --device_target=CPU."
        ) from error
    rank, group_size = _join(cfg)
    ms.set_seed(cfg.seed)
    return Runtime(device, rank, group_size)


def _join(cfg: Config) -> tuple[int, int]:
    if not cfg.is_distributed:
        return 0, 1
    from mindspore import communication

    try:
        communication.init()
    except RuntimeError as error:
        raise UserError(
            "is_distributed needs a launcher that starts all processes, for example "
            "`msrun --worker_num=2 --local_worker_num=2 train.py ...`; for one process set --is_distributed=0.\n"
            f"MindSpore says: {str(error).splitlines()[0]}"
        ) from error
    return communication.get_rank(), communication.get_group_size()


def start_logging(file: Path | None, rank: int = 0) -> None:
    """Logs to standard output (rank 0 only) and, if given, to a file as well, in the form `time:LEVEL:message`."""
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        handler.close()
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)] if rank == 0 else []
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(file, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter(LOG_FORMAT))
        root.addHandler(handler)
    root.setLevel(logging.INFO)
