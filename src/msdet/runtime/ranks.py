"""Whether this process is part of a distributed run, and its device number, from the keys and the environment."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Literal

from msdet.errors import UsageError, UserError

if TYPE_CHECKING:
    from msdet.config import Config

log = logging.getLogger(__name__)

Workload = Literal["train", "evaluate", "alone"]

# Environment variables with the number of processes, of the launchers that MindSpore supports: msrun and Open MPI.
_LAUNCHERS = ("MS_WORKER_NUM", "OMPI_COMM_WORLD_SIZE")
# The variable of ModelArts and the scripts of MindSpore 1. MindSpore 2 cannot initialise a distributed run from it.
_PLATFORM = "RANK_SIZE"


def joins_group(cfg: Config, workload: Workload) -> bool:
    """Whether this process joins a distributed run.

    `is_distributed` decides if it is set, else the environment. In a config file it applies to training only: without a
    launcher, evaluation with that file is a single process.

    Args:
        cfg: the configuration.
        workload: "train", "evaluate", or "alone" for work that is never distributed, such as an export.

    Raises:
        UserError: the environment is that of several processes that MindSpore cannot join; each would silently train
            its own network, or evaluate all images.
        UsageError: an environment variable is not a number.
    """
    is_typed = cfg.places.get("is_distributed", "").startswith("--")
    if is_typed or workload == "alone":
        return cfg.is_distributed and is_typed
    launched = max(_number(name, 0) for name in _LAUNCHERS)
    if cfg.is_distributed:
        if workload == "train" or launched:
            return True
        where = cfg.where("is_distributed")
        log.info("%s applies to training: evaluating in a single process, because there is no launcher", where)
        return False
    if launched > 1:
        log.info("one of %d processes of a launcher: --is_distributed=1 is implied", launched)
        return True
    if _number(_PLATFORM, 1) > 1:
        count = os.environ[_PLATFORM]
        raise UserError(
            f"{_PLATFORM}={count} in the environment means one of {count} processes, but it was not started by a "
            f"launcher of MindSpore: each process would {workload} by itself. MindSpore 2 does not support rank tables."
            f" Start all processes by one command, `msrun --worker_num={count} --local_worker_num={count} "
            f"{'train' if workload == 'train' else 'eval'}.py ...` or one of the scripts; for a single process add "
            "--is_distributed=0."
        )
    return False


def device_id_of(cfg: Config) -> int:
    """The device number: from the flag, else DEVICE_ID of the environment, else the config file.

    Raises:
        UsageError: DEVICE_ID is not a number.
    """
    if cfg.places.get("device_id", "").startswith("--"):
        return cfg.device_id
    return _number("DEVICE_ID", cfg.device_id)


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    if not text.isdecimal():
        raise UsageError(f"{variable} in the environment is {text!r}; it takes a number")
    return int(text)
