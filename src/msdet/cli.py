"""The commands: `msdet train --config FILE ...`, `msdet check ...`; the entry scripts call them too."""

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
        target: `module:function`. The function takes a configuration if `is_configured`, else the arguments.
        help: one line.
        is_configured: its arguments are `--config FILE` and keys.
    """

    target: str
    help: str
    is_configured: bool = False


COMMANDS = {
    "train": Command("msdet.training.train:train", "train a model", True),
    "eval": Command("msdet.evaluation.command:evaluate", "score a checkpoint or a result file", True),
    "test": Command("msdet.evaluation.command:test_dev", "make the result file for COCO's test-dev server", True),
    "predict": Command("msdet.inference.predict:predict", "predict on images, videos or a camera", True),
    "export": Command("msdet.export.command:export", "export a checkpoint to MINDIR, ONNX or AIR", True),
    "postprocess": Command("msdet.inference.score:score", "score an exported file or its result files", True),
    "check": Command("msdet.tools.check.check:main", "check a dataset before training"),
    "browse": Command("msdet.tools.browse:main", "draw training images as the network gets them"),
    "create_data": Command("msdet.tools.create_data:main", "convert a dataset to MindRecord or COCO files"),
    "shapes": Command("msdet.data.synthetic.shapes:main", "render a small dataset"),
    "import": Command("msdet.importers.command:main", "turn weights of other programs into a checkpoint"),
    "compare": Command("msdet.tools.compare:main", "score and time float and int8 files of a detector"),
    "doctor": Command("msdet.tools.doctor.doctor:main", "check this machine"),
    "hccl_tools": Command("msdet.tools.hccl_tools:main", "write the rank table of Ascend servers"),
    "replay": Command("msdet.training.replay.command:main", "run a training step again that was not finite"),
    "keys": Command("msdet.tools.key_table:main", "print the table of configuration keys"),
    "launch": Command("msdet.tools.launcher.launch:main", "what the run_*.sh scripts call"),
}


def command(name: str) -> Callable[[Sequence[str]], int]:
    """The function of a command: arguments -> exit code. MindSpore is imported when it is called, and needed."""

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
    """Runs a command as a process of its own and returns the exit code; see `run_command`."""
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
            raise UsageError(f"there is no command {name!r}; msdet --help lists them")
        sys.stdout.write(_version() if name == "--version" else _usage())
        return 0

    return run_command(usage)


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {entry.help}" for name, entry in COMMANDS.items()]
    return "\n".join(["usage: msdet COMMAND [arguments]", "", *lines, "", "msdet COMMAND --help tells more.", ""])


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"msdet {version('msdet')}\n"
    except PackageNotFoundError:
        return "msdet, not installed\n"
