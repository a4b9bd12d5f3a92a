"""The command behind the run_*.sh scripts: plans the processes, runs and watches them, and restarts failed trainings.

    msdet launch NAME MODEL ARGUMENTS... [--dry_run] [options] [--key value ...]

NAME is the name of the script. Relative paths start from the folder in LAUNCH_FROM, where the script was called. For
the options see `options.Options`; other flags are passed to the entry script.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from msdet.errors import UsageError
from msdet.tools.launcher.arguments import SCRIPTS
from msdet.tools.launcher.plan import Plan, help_text, make_plan


def main(argv: Sequence[str]) -> int:
    if not argv or argv[0] not in SCRIPTS:
        raise UsageError(f"msdet launch NAME MODEL ...; NAME is one of {', '.join(SCRIPTS)}")
    if "--help" in argv or "-h" in argv:
        model = next((word for word in argv[1:] if not word.startswith("-")), "")
        sys.stdout.write(help_text(argv[0], model, _caller_folder()) + "\n")
        return 0
    plan = make_plan(argv[0], argv[1:], _caller_folder())
    if plan.options.dry_run:
        sys.stdout.write(describe(plan))
        return 0
    if plan.note:
        sys.stdout.write(f"{plan.note}\n")
    from msdet.tools.launcher.watch import run

    return run(plan)


def _caller_folder() -> Path:
    return Path(os.environ.get("LAUNCH_FROM") or Path.cwd())


def describe(plan: Plan) -> str:
    """The commands of a plan in shell syntax, and their log files."""
    logs = dict.fromkeys(str(plan.log_path(rank)) for rank in plan.ranks)
    lines = [
        f"cd {shlex.quote(str(plan.working_folder))}",
        str(plan.command()),
        *([f"# {plan.note}"] if plan.note else []),
        *(f"# log: {log}" for log in logs),
    ]
    return "\n".join(lines) + "\n"
