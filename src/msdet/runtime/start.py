"""Starts a run: device, distributed initialisation, random seeds and logging."""

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
from msdet.runtime.ranks import Workload, device_id_of, joins_group

if TYPE_CHECKING:
    from msdet.config import Config

LOG_FORMAT = "%(asctime)s:%(levelname)s:%(message)s"
# File whose modification time the launcher watches.
_HEARTBEAT_VARIABLE = "RANK_HEARTBEAT_FILE"
# Device for `device_target` auto instead of the best available one; tests set it to CPU.
_DEVICE_VARIABLE = "MSDET_DEVICE"


@dataclass(frozen=True)
class Runtime:
    """Device and rank of this process, and communication with the other ranks.

    Attributes:
        device: "CPU", "GPU" or "Ascend".
        rank: rank of this process.
        group_size: number of processes.
    """

    device: str
    rank: int = 0
    group_size: int = 1

    @property
    def is_master(self) -> bool:
        return self.rank == 0

    def gather(self, data: bytes) -> list[bytes]:
        """Gathers the data of all ranks, which may differ in length, on every rank, in the order of the ranks."""
        if self.group_size == 1:
            return [data]
        sizes = self._gather_words(np.array([len(data)], np.int32))[:, 0]
        words = np.zeros(max(-(-int(sizes.max()) // 4), 1), np.int32)
        words.view(np.uint8)[: len(data)] = np.frombuffer(data, np.uint8)
        return [row.tobytes()[:size] for row, size in zip(self._gather_words(words), sizes, strict=True)]

    def gather_numbers(self, values: Sequence[float]) -> np.ndarray:
        """Gathers n numbers of each rank on every rank: (group_size, n) float64."""
        own = np.asarray(values, np.float64)
        if self.group_size == 1:
            return own[None]
        return self._gather_words(own.view(np.int32)).view(np.float64)

    def on_master(self, compute: Callable[[], Any]) -> Any:
        """Calls a function on rank 0 and returns its result (a JSON value) on all ranks.

        Raises:
            UserError: the function raised it; on all ranks, so that none waits.
        """
        share, failure = b"", None
        if self.is_master:
            try:
                share = b"+" + json.dumps(compute()).encode()
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
        # As int32, because the CPU backend supports neither float64 nor uint8.
        gathered = ops.AllGather()(Tensor(words)).asnumpy()
        return np.ascontiguousarray(gathered.reshape(self.group_size, -1))


def requested_device(cfg: Config) -> str:
    """`device_target`, or if that is auto, the environment variable MSDET_DEVICE; "auto" if neither is set."""
    return cfg.device_target if cfg.device_target != "auto" else os.environ.get(_DEVICE_VARIABLE) or "auto"


def start(cfg: Config, workload: Workload = "alone") -> Runtime:
    """Sets the device and the execution mode, initialises distributed communication and the random seeds.

    Args:
        cfg: the configuration.
        workload: see `joins_group`.

    Raises:
        UserError: the device is not available, or the processes were not started by a launcher.
    """
    device = requested_device(cfg)
    if device == "auto":
        device = ms.get_context("device_target")
    joins = joins_group(cfg, workload)
    ms.set_context(mode=ms.GRAPH_MODE if cfg.mode == "graph" else ms.PYNATIVE_MODE)
    try:
        # MindSpore does not accept set_device after it has computed something, even for the current device. CPU has no
        # device number, and in a distributed run it is set by the launcher.
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
            "`msrun --worker_num=2 --local_worker_num=2 train.py ...`; for a single process set --is_distributed=0.\n"
            f"MindSpore reports: {str(error).splitlines()[0]}"
        ) from error
    return communication.get_rank(), communication.get_group_size()


def touch_heartbeat() -> None:
    """Tells the launcher, if there is one, that this process is making progress."""
    file = os.environ.get(_HEARTBEAT_VARIABLE)
    if file:
        os.utime(file)


class _LogFile(logging.FileHandler):
    """A log file that is closed on a write error (full disk), so that the training continues."""

    def handleError(self, record: logging.LogRecord) -> None:
        logging.getLogger().removeHandler(self)
        sys.stderr.write(f"{self.baseFilename} can no longer be written: {sys.exc_info()[1]}\n")


def start_logging(file: Path | None, rank: int = 0) -> None:
    """Logs to standard output and, if given, to a file, in the format `time:LEVEL:message`.

    Only rank 0 writes to standard output, unless a launcher redirects that of each rank to its own file.
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
