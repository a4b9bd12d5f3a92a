"""Device, processes, seeds and logging of one run."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from msdet.errors import UserError
from msdet.runtime.device import configure
from msdet.runtime.ranks import Work, device_id_of, joins_group

if TYPE_CHECKING:
    from msdet.config import Config

LOG_FORMAT = "%(asctime)s:%(levelname)s:%(message)s"
# The launcher watches the time of this file.
_HEARTBEAT_VARIABLE = "RANK_HEARTBEAT_FILE"
# What `device_target` auto stands for, instead of the best device that is there: tests say CPU.
_DEVICE_VARIABLE = "MSDET_DEVICE"


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

    def gather(self, data: bytes) -> list[bytes]:
        """What every rank gives, in the order of the ranks, on all of them; it may differ in length."""
        if self.group_size == 1:
            return [data]
        sizes = self._gather_words(np.array([len(data)], np.int32))[:, 0]
        words = np.zeros(max(-(-int(sizes.max()) // 4), 1), np.int32)
        words.view(np.uint8)[: len(data)] = np.frombuffer(data, np.uint8)
        return [row.tobytes()[:size] for row, size in zip(self._gather_words(words), sizes, strict=True)]

    def gather_numbers(self, values: Sequence[float]) -> np.ndarray:
        """(group_size, n) float64: the numbers of every rank, on all of them; each rank gives equally many."""
        own = np.asarray(values, np.float64)
        if self.group_size == 1:
            return own[None]
        return self._gather_words(own.view(np.int32)).view(np.float64)

    def on_master(self, work: Callable[[], Any]) -> Any:
        """What rank 0 computes (a value that JSON can hold), on all ranks.

        Raises:
            UserError: rank 0 met one; on all ranks, so that none waits for it.
        """
        share, failure = b"", None
        if self.is_master:
            try:
                share = b"+" + json.dumps(work()).encode()
            except UserError as error:
                failure, share = error, b"-" + json.dumps(str(error)).encode()
        share = self.gather(share)[0]
        if failure is not None:
            raise failure
        value = json.loads(share[1:])
        if share.startswith(b"-"):
            raise UserError(value)
        return value

    def _gather_words(self, words: np.ndarray) -> np.ndarray:
        # As int32, so that every bit arrives on every back end: that of the CPU knows no float64 and no uint8.
        gathered = ops.AllGather()(Tensor(words)).asnumpy()
        return np.ascontiguousarray(gathered.reshape(self.group_size, -1))


def requested_device(cfg: Config) -> str:
    """What `device_target` says, or MSDET_DEVICE in the environment in its place; "auto": neither names one."""
    return cfg.device_target if cfg.device_target != "auto" else os.environ.get(_DEVICE_VARIABLE) or "auto"


def start(cfg: Config, work: Work = "alone") -> Runtime:
    """Chooses the device and the execution mode, joins the other processes and seeds the generators.

    Args:
        cfg: the configuration.
        work: what the process is for; see `joins_group`.

    Raises:
        UserError: the device is not there, or the processes were not started by a launcher.
    """
    device = requested_device(cfg)
    if device == "auto":
        device = ms.get_context("device_target")
    joins = joins_group(cfg, work)
    ms.set_context(mode=ms.GRAPH_MODE if cfg.mode == "graph" else ms.PYNATIVE_MODE)
    try:
        # MindSpore refuses to be told a device once it has computed, even the one it uses. CPU has no number, and
        # in a distributed run a card's number is given by the launcher.
        if device != "CPU" and not joins:
            ms.set_device(device, device_id_of(cfg))
        elif device != ms.get_context("device_target"):
            ms.set_device(device)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"device_target {device} is not usable here: {str(error).splitlines()[0]}\n"
            "Run `msdet doctor` to see what this machine has, or set --device_target=CPU."
        ) from error
    configure(cfg)
    rank, group_size = _join() if joins else (0, 1)
    ms.set_seed(cfg.seed)
    return Runtime(device, rank, group_size)


def _join() -> tuple[int, int]:
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


def touch_heartbeat() -> None:
    """Tells the launcher, where there is one, that this process goes on."""
    file = os.environ.get(_HEARTBEAT_VARIABLE)
    if file:
        os.utime(file)


class _LogFile(logging.FileHandler):
    """A log that ends where the disk does: a training of days does not depend on it."""

    def handleError(self, record: logging.LogRecord) -> None:
        logging.getLogger().removeHandler(self)
        sys.stderr.write(f"{self.baseFilename} cannot be written any more: {sys.exc_info()[1]}\n")


def start_logging(file: Path | None, rank: int = 0) -> None:
    """Logs to standard output and, if given, to a file as well, in the form `time:LEVEL:message`.

    Of several ranks only the first writes to standard output, unless the launcher gives each a file for it.
    """
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        handler.close()
    is_shown = rank == 0 or _HEARTBEAT_VARIABLE in os.environ
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)] if is_shown else []
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            handlers.append(_LogFile(file, encoding="utf-8", errors="backslashreplace"))
        except OSError as error:
            raise UserError(f"{file} cannot be written: {error.strerror or error}") from error
    for handler in handlers:
        handler.setFormatter(logging.Formatter(LOG_FORMAT))
        root.addHandler(handler)
    root.setLevel(logging.INFO)
