"""The commands: `msdet train --config FILE ...`, `msdet check ...`. The entry scripts run them as well."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from msdet.errors import UsageError, run_command
from msdet.runtime.interrupts import handle_interrupts


class Command(NamedTuple):
    """A command.

    Attributes:
        target: `module:function`. The function takes a `Config` if `is_configured`, else the list of arguments.
        help: one line for `msdet --help`.
        is_configured: whether its arguments are `--config FILE` and configuration keys.
    """

    target: str
    help: str
    is_configured: bool = False


COMMANDS = {
    "train": Command("msdet.training.train:train", "train a model", True),
    "eval": Command("msdet.evaluation.command:evaluate", "evaluate a checkpoint or a result file", True),
    "test": Command("msdet.evaluation.command:test_dev", "write the result file for COCO's test-dev server", True),
    "predict": Command("msdet.inference.predict:predict", "predict on images, videos or a camera", True),
    "export": Command("msdet.export.command:export", "export a checkpoint to MINDIR, ONNX or AIR", True),
    "postprocess": Command("msdet.inference.score:score", "evaluate an exported file or its result files", True),
    "check": Command("msdet.tools.check.check:main", "check a dataset before training"),
    "browse": Command("msdet.tools.browse:main", "show training images as the network gets them"),
    "create_data": Command("msdet.tools.create_data:main", "convert a dataset to MindRecord or COCO files"),
    "shapes": Command("msdet.data.synthetic.shapes:main", "render a small synthetic dataset"),
    "import": Command("msdet.importers.command:main", "convert weights of other frameworks to a checkpoint"),
    "compare": Command("msdet.tools.compare:main", "compare accuracy and speed of float and int8 files of a detector"),
    "doctor": Command("msdet.tools.doctor.doctor:main", "check this machine"),
    "hccl_tools": Command("msdet.tools.hccl_tools:main", "write the rank table of an Ascend server"),
    "replay": Command("msdet.training.replay.command:main", "re-run a saved training step whose loss was not finite"),
    "keys": Command("msdet.tools.key_table:main", "print the table of configuration keys"),
    "launch": Command(
        "msdet.tools.launcher.launch:main", "start training, evaluation or inference for the run_*.sh scripts"
    ),
}


def command(name: str) -> Callable[[Sequence[str]], int]:
    """The main function of a command, arguments -> exit code. Its module is imported when it is called."""

    def main(argv: Sequence[str]) -> int:
        entry = COMMANDS[name]
        module, _, function = entry.target.partition(":")
        if not entry.is_configured:
            return getattr(importlib.import_module(module), function)(argv)
        from msdet.config import parse_command_line

        cfg = parse_command_line(argv, name)
        return getattr(importlib.import_module(module), function)(cfg)

    return main


def run(name: str, argv: Sequence[str] | None = None) -> int:
    """Runs a command in this process and returns the exit code; see `run_command`."""
    if name == "train":
        handle_interrupts()
    return run_command(command(name), argv)


def main() -> int:
    """The console command `msdet`."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in COMMANDS:
        return run(name, rest)

    def usage(_: Sequence[str]) -> int:
        if name not in ("-h", "--help", "--version"):
            raise UsageError(f"unknown command {name!r}; msdet --help lists the commands")
        sys.stdout.write(_version() if name == "--version" else _usage())
        return 0

    return run_command(usage)


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {entry.help}" for name, entry in COMMANDS.items()]
    return "\n".join(
        [
            "usage: msdet COMMAND [arguments]",
            "",
            *lines,
            "",
            "msdet COMMAND --help shows the arguments of a command.",
            "",
        ]
    )


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"msdet {version('msdet')}\n"
    except PackageNotFoundError:
        return "msdet, not installed\n"
