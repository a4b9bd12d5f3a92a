"""Implementations measured in alternation, in this process and in processes of their own."""

import itertools

import pytest

import benchmarks.machine as machine
from benchmarks.side_by_side import alternate, alternate_all, alternate_epochs
from benchmarks.workers import Side, Worker, alternate_workers, open_workers
from msdet import ONEDNN_VARIABLE

SIDES = """
import os
import numpy as np

def add(a, b):
    calls = []
    def compute():
        print("a line that is no answer")
        calls.append(1)
        return [np.float32(a + b), np.arange(len(calls))]
    return compute

def cap(**_):
    return lambda: [np.array(os.environ.get(%r, "none"))]

def fail():
    def compute():
        raise ValueError("no luck")
    return compute

def leave():
    return lambda: os._exit(3)
"""


@pytest.fixture
def sides(tmp_path, monkeypatch):
    """A module of implementations that worker processes can import."""
    (tmp_path / "some_sides.py").write_text(SIDES % ONEDNN_VARIABLE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_every_side_is_called_in_turn():
    calls = []
    times = alternate_all({name: lambda name=name: calls.append(name) for name in "ab"}, 2)
    assert calls == list("ababab")
    assert {name: len(values) for name, values in times.items()} == {"a": 2, "b": 2}
    calls.clear()
    alternate_all({"a": lambda: calls.append("a")}, 1, warm=False)
    assert calls == ["a"]


def test_loaders_alternate_and_are_closed():
    calls = []

    class Loader:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            return self

        def __exit__(self, *_):
            calls.append(f"close {self.name}")

        def epoch(self, number):
            yield from range(3)
            calls.append(f"{self.name}, epoch {number} to its end")

    times = alternate_epochs({"a": lambda: calls.append("a")}, {"b": Loader("b"), "c": Loader("c")}, 1)
    assert {name: len(values) for name, values in times.items()} == {"a": 1, "b": 1, "c": 1}
    assert calls == ["a", "b, epoch 0 to its end", "c, epoch 0 to its end"] * 2 + ["close c", "close b"]


def test_a_slow_implementation_is_skipped_after_its_budget(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr("benchmarks.side_by_side.time.perf_counter", lambda: float(next(clock)))
    times = alternate_all({"a": int, "b": int}, 5, budget=1.5)
    assert times == {"a": [1.0, 1.0], "b": [1.0, 1.0]}
    assert alternate(int, int, 3) == (1.0, 1.0)


def test_a_worker_computes_and_measures(sides, tmp_path):
    with Worker("some_sides:add", {"a": 1, "b": 2}) as worker:
        total, calls = worker.compute(tmp_path / "out.npz")
        assert (float(total), calls.tolist()) == (3.0, [0])
        assert len(worker.measure(calls=3, limit=60)) == 3
        assert len(worker.measure(calls=3, limit=0)) == 1
        assert len(worker.compute(tmp_path / "out.npz")[1]) == 1 + 4 + 1 + 1
    assert worker.process.poll() is not None


def test_only_capped_sides_see_the_setting_for_onednn(sides, tmp_path, monkeypatch):
    monkeypatch.setenv(ONEDNN_VARIABLE, "AVX2")
    both = {"ours": Side("some_sides:cap", capped=True), "stock": Side("some_sides:cap")}
    with open_workers(both, {}) as workers:
        found = {name: str(worker.compute(tmp_path / "out.npz")[0]) for name, worker in workers.items()}
        times = alternate_workers(workers, rounds=2, calls=1)
    assert found == {"ours": "AVX2", "stock": "none"}
    assert [len(values) for values in times.values()] == [2, 2]


@pytest.mark.parametrize(
    ("side", "message"),
    [
        ("some_sides:absent", "AttributeError"),
        ("some_sides:fail", "ValueError: no luck"),
        ("some_sides:leave", "ended with code 3"),
    ],
)
def test_errors_of_a_worker_are_reported(sides, tmp_path, side, message):
    with pytest.raises(RuntimeError, match=message), Worker(side, {}) as worker:
        worker.compute(tmp_path / "out.npz")


def test_implementations_that_need_pytorch_are_skipped_without_it(sides, tmp_path):
    both = {"ours": Side("some_sides:cap"), "torch": Side("some_sides:cap", needs_torch=True)}
    with open_workers(both, {}, torch_python=str(tmp_path / "absent")) as workers:
        assert list(workers) == ["ours"]


def test_the_machine_is_described():
    found = machine.describe()
    text = machine.sentence(found)
    assert found["versions"]["numpy"] in text
    assert f"{found['cores']} cores" in text
    assert machine.torch_version("/absent/python") == ""


def test_the_load_of_other_programs_is_measured(monkeypatch):
    now = {"time": 0.0, "busy": 0.0, "own": 0.0}
    monkeypatch.setattr(machine.time, "perf_counter", lambda: now["time"])
    monkeypatch.setattr(machine, "_busy_seconds", lambda: now["busy"])
    monkeypatch.setattr(machine, "_own_seconds", lambda: now["own"])
    other_load = machine.OtherLoad()
    now.update(time=10.0, busy=15.0, own=9.0)
    assert other_load.cores() == pytest.approx(0.6)
    assert not machine.quiet(0.6)
    assert machine.quiet(0.1)
    assert machine.quiet(None)
