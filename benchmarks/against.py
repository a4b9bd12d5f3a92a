"""Compares the training step of this checkout with that of another: python -m benchmarks.against OTHER_CHECKOUT

OTHER_CHECKOUT is a folder with the other version of the project, for example from
`git worktree add ../before COMMIT`. Each trains in a process of its own on the same synthetic batch; blocks of steps
alternate. Prints the medians and the median ratio of the blocks, for wall time and CPU time.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
_NARROW = ("--backbone_shape=4,8,8,16,16,16", "--backbone_layers=1,1,1,1,1", "--num_classes=2", "--class_names=a,b")
_SHAPES = ("--num_classes=3", "--class_names=red,green,blue")
# Name -> configuration, batch size, px, keys.
CASES = {
    "quickstart": ("yolov3_shapes", 8, 192, _SHAPES),
    "narrowest": ("yolov3", 2, 64, _NARROW),
}


def step_of(case: str) -> Callable[[], object]:
    """A function that runs one training step of the checkout in the working folder and waits for it."""
    import mindspore as ms
    import numpy as np

    if Path("src/msdet").is_dir():
        names = ("msdet.config", "msdet.models.recipe", "msdet.runtime.start", "msdet.training.train")
    else:
        # Versions before the package was renamed.
        names = ("src.config", "src.recipe", "src.engine.runtime", "src.engine.train")
    config_module, recipe_module, start_module, train_module = map(importlib.import_module, names)
    load_config, get_recipe = config_module.load_config, recipe_module.get_recipe
    start, build_train_step = start_module.start, train_module.build_train_step

    config, count, side, keys = CASES[case]
    size = [f"--training_shape={side}", f"--testing_shape={side}", "--device_target=CPU"]
    cfg = load_config(f"configs/{config}.yaml", [*keys, *size])
    start(cfg)
    recipe = get_recipe(cfg)
    step, _ = build_train_step(cfg, recipe, recipe.build_network(), 1)
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, side / 2, (count, 30, 2))
    labels = np.full((count, 30), -1, np.int32)
    labels[:, :9] = rng.integers(0, 2, (count, 9))
    boxes = np.concatenate((corners, corners + rng.uniform(8, side / 3, (count, 30, 2))), 2).astype(np.float32)
    images = rng.integers(0, 255, (count, side, side, 3), np.uint8)
    batch = (images, np.full((count, 2), side, np.int32), boxes, labels, np.float32([side, side]))
    if hasattr(step, "run"):
        return lambda: step.run(batch, 1e-4, ema_decay=0.9)

    # Versions whose step took three scalars and returned a tuple.
    def older() -> list[float]:
        scalars = ms.Tensor(1e-4, ms.float32), ms.Tensor(0, ms.int32), ms.Tensor(0.9, ms.float32)
        losses, norm, ok, scale = step(*scalars, *[ms.Tensor(np.array(array)) for array in batch])
        return [*map(float, losses), float(norm), bool(ok), float(scale)]

    return older


def serve(case: str, steps: int) -> None:
    """Runs a block of steps for each line of input; answers with wall and CPU milliseconds per step."""
    sys.path[:0] = [str(Path.cwd() / "src"), str(Path.cwd())]
    step = step_of(case)
    step()
    step()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for _ in sys.stdin:
        processor, wall = time.process_time(), time.perf_counter()
        for _ in range(steps):
            step()
        took = (time.perf_counter() - wall) / steps, (time.process_time() - processor) / steps
        sys.stdout.write(json.dumps([1000 * seconds for seconds in took]) + "\n")
        sys.stdout.flush()


class Version:
    """A checkout whose steps run in a process of its own."""

    def __init__(self, folder: Path, case: str, steps: int) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), "--serve", case, "--steps", str(steps), str(folder)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, cwd=folder, text=True, **pipes)
        while (line := self.process.stdout.readline()).strip() != "ready":
            if not line:
                raise SystemExit(f"{folder} cannot run a step of {case}")

    def block(self) -> list[float]:
        """Wall and CPU milliseconds per step of a block."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        """Ends the process."""
        self.process.stdin.close()
        self.process.wait()


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against", description=__doc__)
    parser.add_argument("other", type=Path, help="folder of the other checkout")
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--steps", type=int, default=5, help="steps per block")
    parser.add_argument("--serve", choices=sorted(CASES), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.serve:
        serve(args.serve, args.steps)
        return 0
    for case in CASES:
        versions = [Version(folder, case, args.steps) for folder in (HERE, args.other.resolve())]
        blocks = [[version.block() for version in versions] for _ in range(args.blocks)]
        for version in versions:
            version.close()
        for place, kind in enumerate(("wall", "processor")):
            here, other = zip(*[(mine[place], theirs[place]) for mine, theirs in blocks], strict=True)
            ratio = statistics.median(mine / theirs for mine, theirs in zip(here, other, strict=True))
            medians = f"{statistics.median(here):.1f} ms here, {statistics.median(other):.1f} ms there"
            sys.stdout.write(f"{case}, {kind} time: {medians}, ratio {ratio:.3f}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
