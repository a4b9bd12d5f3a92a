"""Measures this project against baselines: python benchmarks/run.py NAME...

The implementations of a comparison alternate in one run. Prints a table of medians and speedups, and writes NAME.json,
with every single measurement, to the output folder. `--show FOLDER` prints the Markdown table of results in a folder.

A new benchmark is a module in this folder with a function

    def measure(options: Options) -> Result

(see report.py) and a line in BENCHMARKS. Implementations that share a process are timed by `alternate_all` of
side_by_side.py; for those that cannot (another oneDNN setting, PyTorch, several large networks), write a function
that returns the function to call, name it in a `Side`, and use `open_workers` and `alternate_workers` of workers.py,
as forward.py does. Check that all give the same results before timing them; put remarks into
`Result.notes`; with `options.quick` it must end within seconds. The measurements for the README are in
benchmarks/results (`--output benchmarks/results`); `--show benchmarks/results` prints the README's table.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

if not __package__:  # started as a file: this folder is on the path instead of the one above
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
sys.path.insert(1, str(Path(__file__).resolve().parent.parent / "src"))

from benchmarks.machine import OtherLoad, describe, quiet, sentence
from benchmarks.report import ROOT, Options, Result, Row, markdown_table, plain_table
from msdet.errors import UsageError, UserError, run_command
from msdet.files import atomic_path


@dataclass(frozen=True)
class Benchmark:
    """A benchmark of the command line.

    Attributes:
        module: has `measure(options) -> Result`; imported only when the benchmark runs.
        about: short description.
    """

    module: str
    about: str


BENCHMARKS = {
    "forward": Benchmark("benchmarks.forward", "forward passes of DarkNet53 and YOLOv3 in four runtimes"),
    "train_step": Benchmark("benchmarks.train_step", "a training step of DarkNet53 against PyTorch"),
    "int8": Benchmark("benchmarks.int8", "int8 YOLOv3 against float, and the step that trains for it"),
    "data": Benchmark("benchmarks.data_throughput", "the training input against plain loops"),
    "mindrecord": Benchmark("benchmarks.mindrecord_throughput", "the training input from MindRecord against files"),
    "class_data": Benchmark("benchmarks.class_throughput", "the training input of classifiers against Pillow"),
    "postprocess": Benchmark("benchmarks.postprocess", "post-processing of an image against plain numpy"),
    "coco_eval": Benchmark("benchmarks.coco_eval", "COCO scoring against pycocotools"),
    "startup": Benchmark("benchmarks.startup", "the time until --help is printed"),
}


def main(argv: Sequence[str]) -> int:
    args = _parser().parse_args(argv)
    if args.show:
        sys.stdout.write(_shown(args.show) + "\n")
        return 0
    for name in args.names:
        _check_name(name)
    if not args.names:
        raise UsageError(f"name at least one benchmark: {', '.join(BENCHMARKS)}")
    options = Options(args.rounds, args.quick, args.data_dir, args.torch_python)
    machine = describe(args.torch_python)
    sys.stdout.write(sentence(machine) + "\n")
    for name in args.names:
        sys.stdout.write(f"\n{name}: {BENCHMARKS[name].about} ...\n")
        sys.stdout.flush()
        other_load = OtherLoad()
        result = _measure(name, options)
        others = other_load.cores()
        if not quiet(others):
            result.notes.append(
                f"{name}: other programs used {others:.1f} of {machine['cores']} cores during the measurement."
            )
        sys.stdout.write("\n".join([plain_table(result.rows), *result.notes, ""]))
        command = " ".join(
            ["python benchmarks/run.py", name]
            + ([f"--rounds {args.rounds}"] if args.rounds else [])
            + (["--quick"] if args.quick else [])
        )
        path = args.output / f"{name}.json"
        _write(path, {"name": name, "command": command, "machine": machine, "others_cores": others}, result)
        sys.stdout.write(f"{path}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    names = "\n".join(f"  {name:<12} {benchmark.about}" for name, benchmark in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python benchmarks/run.py",
        description=f"{__doc__.split(chr(10) * 2, 2)[1]}\n\nNAME is one or more of\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rounds", type=_count, default=0, help="rounds per implementation; default: as the benchmark")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to check that it runs; the results are meaningless"
    )
    parser.add_argument("--data_dir", type=Path, help="dataset as for train.py; default: DATA_DIR/coco_mini")
    parser.add_argument(
        "--torch_python", default="", metavar="PYTHON", help="interpreter with PyTorch; default: this one"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=ROOT / "outputs" / "benchmarks",
        metavar="FOLDER",
        help="folder of the JSON files",
    )
    parser.add_argument("--show", type=Path, metavar="FOLDER", help="print the results in a folder without measuring")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _check_name(name: str) -> None:
    if name not in BENCHMARKS:
        near = difflib.get_close_matches(name, BENCHMARKS, 1)
        hint = f", did you mean {near[0]!r}?" if near else f": choose from {', '.join(BENCHMARKS)}"
        raise UsageError(f"there is no benchmark {name!r}{hint}")


def _measure(name: str, options: Options) -> Result:
    """The result of one benchmark.

    Raises:
        UserError: a required package is not installed.
    """
    try:
        measure: Callable[[Options], Result] = importlib.import_module(BENCHMARKS[name].module).measure
        return measure(options)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("benchmarks", "msdet"):
            raise
        raise UserError(f"{name} needs {error.name}: pip install -r requirements-bench.txt") from error


def _write(path: Path, head: dict[str, Any], result: Result) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    body = {"rows": [row.to_dict() for row in result.rows], "notes": result.notes, "samples": result.samples}
    text = json.dumps({**head, "date": now, **body}, indent=1)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _shown(folder: Path) -> str:
    """Machine, Markdown table and notes of the results in a folder.

    Raises:
        UserError: there are none, or a file is invalid.
    """
    files = [folder / f"{name}.json" for name in BENCHMARKS if (folder / f"{name}.json").is_file()]
    if not files:
        raise UserError(f"{folder} has no results: measure some with --output {folder}")
    rows, notes, machines = [], [], []
    for file in files:
        try:
            result = json.loads(file.read_text(encoding="utf-8"))
            rows += [Row.from_dict(row) for row in result["rows"]]
            notes += result["notes"]
            machines.append(sentence(result["machine"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file} is not a benchmark result ({error}): measure it again") from error
    return "\n\n".join(["\n".join(dict.fromkeys(machines)), markdown_table(rows), "\n".join(notes)])


if __name__ == "__main__":
    # Exits normally on SIGTERM, so that stopped worker processes are ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(run_command(main))
