"""The command of the benchmarks: names, files, tables."""

import importlib
import json
import re
import subprocess
import sys

import pytest

from benchmarks import run
from benchmarks.report import ROOT
from msdet.errors import UsageError, UserError, run_command

STUB = """
from benchmarks.report import SPEEDUP, Goal, Result

def measure(options):
    result = Result()
    medians = result.keep("adding", {"ours": [0.001] * options.count(3), "numpy": [0.004]}, 1000)
    result.compare("adding", "ms", medians, "ours", "numpy", [Goal(SPEEDUP, at_least=2)])
    result.notes.append("The sums are equal.")
    return result
"""


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """One benchmark `stub` instead of the real ones."""
    (tmp_path / "stub_benchmark.py").write_text(STUB)
    (tmp_path / "lacking_benchmark.py").write_text("import a_package_that_is_absent\n")
    monkeypatch.syspath_prepend(tmp_path)
    benchmarks = {name: run.Benchmark(f"{name}_benchmark", "a stub") for name in ("stub", "lacking")}
    monkeypatch.setattr(run, "BENCHMARKS", benchmarks)
    return tmp_path


def test_a_run_prints_a_table_and_writes_a_result_file(stub, capsys):
    assert run.main(["stub", "--rounds", "2", "--output", str(stub / "out")]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"adding\s+ours\s+1.00 ms\s+numpy\s+4.00 ms\s+4.00\s+>= 2x: 4, met", printed)
    assert "The sums are equal." in printed
    content = json.loads((stub / "out" / "stub.json").read_text())
    assert content["command"] == "python benchmarks/run.py stub --rounds 2"
    assert content["samples"] == {"adding": {"ours": [1.0, 1.0], "numpy": [4.0]}}
    assert content["machine"]["cores"] >= 1
    assert run.main(["--show", str(stub / "out")]) == 0
    assert "| adding | ours | 1.00 ms | numpy | 4.00 ms | 4.00 | >= 2x: 4, met |" in capsys.readouterr().out


def test_unknown_benchmarks_are_reported(stub):
    with pytest.raises(UsageError, match="did you mean 'stub'"):
        run.main(["stubb"])
    with pytest.raises(UsageError, match="choose from stub, lacking"):
        run.main(["speed"])
    with pytest.raises(UsageError, match="name at least one benchmark: stub, lacking"):
        run.main([])
    with pytest.raises(SystemExit) as stopped:
        run.main(["stub", "--rounds", "0"])
    assert stopped.value.code == 2


def test_a_missing_package_is_reported_with_a_remedy(stub):
    with pytest.raises(UserError, match="needs a_package_that_is_absent: pip install -r requirements-bench.txt"):
        run.main(["lacking"])


def test_invalid_results_are_refused(stub):
    with pytest.raises(UserError, match="has no results"):
        run.main(["--show", str(stub)])
    for text in ("{", "[]", '{"rows": [{}]}'):
        (stub / "stub.json").write_text(text)
        with pytest.raises(UserError, match="stub.json is not a benchmark result"):
            run.main(["--show", str(stub)])


def test_every_benchmark_has_a_measure_function():
    for benchmark in run.BENCHMARKS.values():
        assert callable(importlib.import_module(benchmark.module).measure)


def test_the_page_of_benchmarks_holds_the_results():
    """Value, baseline and speedup of each stored row stand in one row of the page."""
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8").splitlines()
    stored = run._shown(ROOT / "benchmarks" / "results").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in stored if line.startswith("| ")][2:]
    assert len(rows) > 30
    for row in rows:
        figures = [row[i] for i in (2, 4, 5) if row[i]]
        assert any(all(figure in line for figure in figures) for line in page), row


def test_the_command_runs_as_a_file_and_as_a_module():
    for how in (["benchmarks/run.py"], ["-m", "benchmarks.run"]):
        done = subprocess.run([sys.executable, *how, "forwrd"], cwd=ROOT, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (2, "error: there is no benchmark 'forwrd', did you mean 'forward'?\n")


@pytest.mark.parametrize("name", ["postprocess", "data", "mindrecord", "coco_eval", "startup"])
def test_quick_runs(tmp_path, data_dir, name, monkeypatch):
    monkeypatch.setattr("benchmarks.startup.SCRIPTS", ("train.py",))
    command = [name, "--quick", "--rounds", "1", "--data_dir", str(data_dir / "coco_mini"), "--output", str(tmp_path)]
    assert run_command(run.main, command) == 0
    content = json.loads((tmp_path / f"{name}.json").read_text())
    assert content["rows"] and all(row["value"] > 0 for row in content["rows"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["forward", "train_step"])
def test_quick_runs_of_networks(tmp_path, name):
    assert run_command(run.main, [name, "--quick", "--rounds", "1", "--output", str(tmp_path)]) == 0
    notes = json.loads((tmp_path / f"{name}.json").read_text())["notes"]
    assert any("equal within" in note or "PyTorch is not installed" in note for note in notes)
