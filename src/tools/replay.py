"""Runs a training step again that was not finite: python -m src.tools.replay outputs/RUN/debug/step_S."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from src.errors import run_command


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m src.tools.replay",
        description="Runs a training step again that was not finite, as a whole and then each of its images alone, "
        "with the weights that it had.",
    )
    parser.add_argument("folder", type=Path, help="debug/step_S in the folder of a run")
    parser.add_argument("--device_target", default="CPU", help="where to compute (CPU)")
    args = parser.parse_args(list(argv))

    from src.engine.failed_step import Replay, load_failed_step
    from src.engine.runtime import start
    from src.engine.train import build_train_step
    from src.recipe import get_recipe

    failed = load_failed_step(args.folder)
    cfg = failed.cfg.replace(is_distributed=False, device_target=args.device_target)
    runtime = start(cfg)
    recipe = get_recipe(cfg)
    step, loss_names = build_train_step(cfg, recipe, recipe.build_network(), runtime.group_size)
    for line in Replay(failed, step, loss_names).lines():
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
