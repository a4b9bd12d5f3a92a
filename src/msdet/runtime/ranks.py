"""Whether this process is one of several, and on which card it works: what the keys say and what started it says."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Literal

from msdet.errors import UsageError, UserError

if TYPE_CHECKING:
    from msdet.config import Config

log = logging.getLogger(__name__)

Work = Literal["train", "evaluate", "alone"]

# How many processes a launcher has started, by the variables that MindSpore joins them with: msrun's, Open MPI's.
_LAUNCHERS = ("MS_WORKER_NUM", "OMPI_COMM_WORLD_SIZE")
# What ModelArts and the scripts of MindSpore 1 tell their processes. MindSpore 2 cannot join those by it.
_PLATFORM = "RANK_SIZE"


def joins_group(cfg: Config, work: Work) -> bool:
    """Whether this process is to join others.

    `is_distributed` decides; left out, what started the process does. In a file it is of training: evaluating with that
    file is done by one process where nobody has started several.

    Args:
        cfg: the configuration.
        work: "train", "evaluate", or "alone": what is not shared out, such as an export.

    Raises:
        UserError: the environment speaks of several processes that nothing can join: each would train a network of its
            own, or evaluate all images, and say nothing.
        UsageError: a variable is no number.
    """
    is_typed = cfg.places.get("is_distributed", "").startswith("--")
    if is_typed or work == "alone":
        return cfg.is_distributed and is_typed
    launched = max(_number(name, 0) for name in _LAUNCHERS)
    if cfg.is_distributed:
        if work == "train" or launched:
            return True
        where = cfg.where("is_distributed")
        log.info("%s is for training: this process works alone, since no launcher has started it", where)
        return False
    if launched > 1:
        log.info("one of %d processes of a launcher: --is_distributed=1 is taken for granted", launched)
        return True
    if _number(_PLATFORM, 1) > 1:
        count = os.environ[_PLATFORM]
        raise UserError(
            f"{_PLATFORM}={count} in the environment says that this is one of {count} processes, but none of "
            f"MindSpore's launchers has started it: each would {work} by itself. MindSpore 2 joins no processes by a "
            f"rank table. Start all by one command, `msrun --worker_num={count} --local_worker_num={count} "
            f"{'train' if work == 'train' else 'eval'}.py ...` or one of the scripts; for one process alone add "
            "--is_distributed=0."
        )
    return False


def device_id_of(cfg: Config) -> int:
    """Number of the device: what was typed, else DEVICE_ID of the environment, else what the configuration says.

    Raises:
        UsageError: DEVICE_ID is no number.
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
