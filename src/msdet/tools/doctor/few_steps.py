"""Three training steps of a small YOLOv3 on random images, identical on every device; used by the doctor.

python -m msdet.tools.doctor.few_steps --device_target Ascend LOSSES.npy

writes the loss of each step, float64 (3,).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from msdet.errors import run_command
from msdet.tools.doctor.machine import ROOT

_NARROW = ("--backbone_shape=4,8,8,16,16,16", "--backbone_layers=1,1,1,1,1", "--num_classes=2", "--class_names=a,b")
_SIDE, _IMAGES, _STEPS = 64, 4, 3


def losses_on(device: str) -> np.ndarray:
    """The loss of each step, float64 (steps,)."""
    from mindspore import Tensor

    from msdet.config import load_config
    from msdet.models.recipe import get_recipe
    from msdet.runtime.start import start
    from msdet.training.train import build_train_step

    size = (f"--training_shape={_SIDE}", f"--testing_shape={_SIDE}")
    flags = [*_NARROW, *size, f"--device_target={device}", "--amp_level=O0", "--seed=1"]
    cfg = load_config(ROOT / "configs" / "yolov3.yaml", flags)
    start(cfg)
    recipe = get_recipe(cfg)
    network = recipe.build_network()
    rng = np.random.default_rng(1)
    for parameter in network.trainable_params():
        # Do not use MindSpore's generator, which may differ between devices.
        if parameter.ndim > 1:
            bound = 1 / np.sqrt(parameter.size / parameter.shape[0])
            parameter.set_data(Tensor(rng.uniform(-bound, bound, parameter.shape).astype(np.float32)))
    step, _ = build_train_step(cfg, recipe, network, 1)
    images = rng.integers(0, 256, (_IMAGES, _SIDE, _SIDE, 3), np.uint8)
    corners = rng.uniform(0, _SIDE / 2, (_IMAGES, 5, 2))
    boxes = np.concatenate((corners, corners + rng.uniform(8, 30, (_IMAGES, 5, 2))), 2).astype(np.float32)
    labels = rng.integers(0, 2, (_IMAGES, 5)).astype(np.int32)
    sizes = np.full((_IMAGES, 2), _SIDE, np.int32)
    batch = (images, sizes, boxes, labels, np.array([_SIDE, _SIDE], np.float32))
    return np.array([sum(step.run(batch, rate=1e-3).losses) for _ in range(_STEPS)])


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m msdet.tools.doctor.few_steps", description=__doc__)
    parser.add_argument("--device_target", default="CPU", choices=("CPU", "GPU", "Ascend"))
    parser.add_argument("file", type=Path)
    args = parser.parse_args(argv)
    np.save(args.file, losses_on(args.device_target))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
