"""Sides that need a process of their own, each of which does one round when it is asked.

A side is a function that returns what to call: `module:function` with its arguments; a call computes once and returns
arrays. Between rounds a worker is stopped, so that its idle threads take nothing from the side that is being measured.
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
    """A side before its process is started.

    Attributes:
        function, capped: see `Worker`.
        needs_torch: it runs where PyTorch is, or not at all.
    """

    function: str
    capped: bool = False
    needs_torch: bool = False


class Worker:
    """A process with one side.

    Args:
        side: `module:function` that makes the callable.
        arguments: of that function; what JSON can say.
        capped: with the setting for oneDNN that `src` makes where it is needed; False: as a process without `src`.
        python: interpreter; "" = this one.

    Raises:
        RuntimeError: from any method, when the process fails; with its traceback.
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
        """Computes once, which compiles what needs compiling; gives the results by way of a file."""
        self._ask({"do": "compute", "file": str(file)})
        with np.load(file) as arrays:
            return [arrays[name] for name in arrays.files]

    def measure(self, calls: int, limit: float) -> list[float]:
        """Seconds of each of `calls` calls after one that is not counted, fewer where they take longer than `limit`.

        At least one counts, if need be the first.
        """
        return self._ask({"do": "measure", "calls": calls, "limit": limit})["seconds"]

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.send_signal(signal.SIGCONT)
        # A worker that has ended leaves last words, which are still to be read.
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
    """The processes of all sides, by the sides' names; those that need PyTorch are missing where it is not installed.

    Args:
        sides: by their names.
        arguments: of all of them.
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
    """Seconds a call of each side: of each round the median of `calls` calls.

    Args:
        workers: name -> side; each has computed once.
        rounds: in which each side gets its turn.
        calls: of a side in its turn.
        budget: seconds of a side after which it is left out of further rounds.
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
    """The process: makes its side, then answers requests until there are no more."""
    # Whatever a library prints must not come between the answers.
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
    except Exception:  # noqa: BLE001 (whatever it is, the process that asked reports it)
        answer(error=traceback.format_exc())
        sys.exit(1)


if __name__ == "__main__":
    main()
