"""What the run_*.sh scripts start: it plans the commands, runs them, watches the ranks and starts them again.

    msdet launch NAME MODEL ARGUMENTS... [--dry_run] [options] [--key value ...]

NAME is the script's. Paths count from the folder in LAUNCH_FROM, where the scripts were called. Options are those of
`launch_options.Options`; what else begins with -- goes to the entry script.
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
        sys.stdout.write(help_text(argv[0], model, _caller()) + "\n")
        return 0
    plan = make_plan(argv[0], argv[1:], _caller())
    if plan.options.dry_run:
        sys.stdout.write(describe(plan))
        return 0
    if plan.note:
        sys.stdout.write(f"{plan.note}\n")
    from msdet.tools.launcher.watch import run

    return run(plan)


def _caller() -> Path:
    return Path(os.environ.get("LAUNCH_FROM") or Path.cwd())


def describe(plan: Plan) -> str:
    """The commands of a plan as lines that a shell could run, and where they log."""
    logs = dict.fromkeys(str(plan.log_of(rank)) for rank in plan.ranks)
    lines = [
        f"cd {shlex.quote(str(plan.start))}",
        str(plan.command()),
        *([f"# {plan.note}"] if plan.note else []),
        *(f"# log: {log}" for log in logs),
    ]
    return "\n".join(lines) + "\n"
