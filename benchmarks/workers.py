"""Implementations that need a process of their own; each runs a round on request.

A side is a function `module:function` with arguments that returns another function; each call of that computes once and
returns arrays. Between rounds a worker is stopped, so that its idle threads do not slow down the one being measured.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import msdet
from benchmarks.machine import torch_version
from benchmarks.report import ROOT
from benchmarks.side_by_side import BUDGET

Compute = Callable[[], Sequence[np.ndarray]]


@dataclass(frozen=True)
class Side:
    """The description of an implementation that runs in a process of its own.

    Attributes:
        function, capped: see `Worker`.
        needs_torch: it is skipped where PyTorch is not installed.
    """

    function: str
    capped: bool = False
    needs_torch: bool = False


class Worker:
    """A process that runs one implementation.

    Args:
        side: `module:function` that returns the function to call.
        arguments: of `module:function`, as JSON values.
        capped: with the oneDNN setting that the package makes where it is needed; False: without it.
        python: interpreter; "" = this one.

    Raises:
        RuntimeError: from any method, if the process fails; with its traceback.
    """

    def __init__(self, side: str, arguments: Mapping[str, Any], capped: bool = False, python: str = "") -> None:
        setup = json.dumps({"side": side, "arguments": dict(arguments), "capped": capped})
        self.side = side
        path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [python or sys.executable, "-m", "benchmarks.workers", setup],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def compute(self, file: Path) -> list[np.ndarray]:
        """Computes once, which includes compiling; the results are passed through a file."""
        self._ask({"do": "compute", "file": str(file)})
        with np.load(file) as arrays:
            return [arrays[name] for name in arrays.files]

    def measure(self, calls: int, limit: float) -> list[float]:
        """Seconds of each of `calls` calls after an uncounted one, fewer if they take longer than `limit` in total.

        At least one is counted, if necessary the first.
        """
        return self._ask({"do": "measure", "calls": calls, "limit": limit})["seconds"]

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.send_signal(signal.SIGCONT)
        # The output of a worker that has ended is still to be read.
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        answer = self._read()
        self.process.send_signal(signal.SIGSTOP)
        return answer

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.side}: the process ended with code {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.side}:\n{answer['error']}")
        return answer

    def close(self) -> None:
        """Ends the process."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextmanager
def open_workers(
    sides: Mapping[str, Side], arguments: Mapping[str, Any], torch_python: str = ""
) -> Iterator[dict[str, Worker]]:
    """Starts the processes of all sides, by name; those that need PyTorch are skipped if it is not installed.

    Args:
        sides: by name.
        arguments: passed to all of them.
        torch_python: see `torch_version`.
    """
    has_torch = bool(torch_version(torch_python))
    with ExitStack() as stack:
        workers = {}
        for name, side in sides.items():
            if has_torch or not side.needs_torch:
                python = torch_python if side.needs_torch else ""
                workers[name] = stack.enter_context(Worker(side.function, arguments, side.capped, python))
        yield workers


def alternate_workers(
    workers: Mapping[str, Worker], rounds: int, calls: int, budget: float = BUDGET
) -> dict[str, list[float]]:
    """Seconds per call of each side: the median of `calls` calls in each round.

    Args:
        workers: by name; each has computed once.
        rounds: number of rounds; each side runs once per round.
        calls: number of calls per round.
        budget: seconds of a side after which it is skipped in further rounds.
    """
    times: dict[str, list[float]] = {name: [] for name in workers}
    spent = dict.fromkeys(workers, 0.0)
    for _ in range(rounds):
        for name, worker in workers.items():
            if spent[name] > budget:
                continue
            begin = time.perf_counter()
            times[name].append(float(np.median(worker.measure(calls, budget / 2))))
            spent[name] += time.perf_counter() - begin
    return times


def _measure(compute: Compute, calls: int, limit: float) -> list[float]:
    seconds: list[float] = []
    while len(seconds) <= calls and sum(seconds) <= limit:
        begin = time.perf_counter()
        compute()
        seconds.append(time.perf_counter() - begin)
    return seconds[1:] or seconds


def main() -> None:
    """The worker process: creates its side, then answers requests."""
    # Output of libraries must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(**content: Any) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    try:
        setup = json.loads(sys.argv[1])
        if not setup["capped"]:
            os.environ.pop(msdet.ONEDNN_VARIABLE, None)
        module, _, name = setup["side"].partition(":")
        compute: Compute = getattr(importlib.import_module(module), name)(**setup["arguments"])
        answer(ready=True)
        for line in sys.stdin:
            request = json.loads(line)
            if request["do"] == "compute":
                np.savez(request["file"], *compute())
                answer(done=True)
            else:
                answer(seconds=_measure(compute, request["calls"], request["limit"]))
    except Exception:  # noqa: BLE001 (reported by the parent process)
        answer(error=traceback.format_exc())
        sys.exit(1)


if __name__ == "__main__":
    main()
