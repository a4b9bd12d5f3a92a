"""The command `msdet replay outputs/RUN/debug/step_S`: repeats a training step that was not finite."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="msdet replay",
        description="Repeats a training step that was not finite, with its weights: first the whole batch, then each "
        "image alone.",
    )
    parser.add_argument("folder", type=Path, help="debug/step_S in the folder of a run")
    parser.add_argument("--device_target", default="CPU", help="device to run on (CPU)")
    args = parser.parse_args(list(argv))

    from msdet.models.recipe import get_recipe
    from msdet.runtime.start import start
    from msdet.training.replay.failed_step import Replay, load_failed_step
    from msdet.training.train import build_train_step

    failed = load_failed_step(args.folder)
    cfg = failed.cfg.replace(is_distributed=False, device_target=args.device_target)
    runtime = start(cfg)
    recipe = get_recipe(cfg)
    step, loss_names = build_train_step(cfg, recipe, recipe.build_network(), runtime.group_size)
    for line in Replay(failed, step, loss_names).lines():
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    return 0
