"""Runs one case in a process that loads the stubs as CANN.

python child.py OUTCOME KIND NETWORK [FLAGS ...]

OUTCOME is a JSON file to write, with `error`, the exception that ended the case or an empty text, and `facts`, other
results. With several ranks, the first one writes it.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.ascend.cases import NETWORKS, ROOT

if TYPE_CHECKING:
    from mindspore import Tensor

    from msdet.config import Config

# The first step uploads weights and constants; all later ones are alike.
STEPS = 3
BOXES = 8
MIXED = ("--amp_level=O2", "--dynamic_loss_scale=1", "--ema_decay=0.999", "--clip_grad_norm=10", "--accumulate_steps=2")


def mark_step() -> None:
    """Tells the stubs that a new step begins."""
    ctypes.CDLL("libascendcl.so").ascend_stub_mark(b"step")


def tiny_config(network: str, *flags: str) -> Config:
    """Configuration of a narrow network; also sets up the device, as the commands do."""
    from msdet.config import load_config
    from msdet.runtime.start import start

    tiny = NETWORKS[network]
    size = [f"--testing_shape={tiny.size}", f"--training_shape={tiny.size}"]
    flags = [*tiny.flags, *size, "--device_target=Ascend", *flags]
    cfg = load_config(ROOT / "configs" / f"{tiny.config}.yaml", flags)
    start(cfg)
    return cfg


def make_batch(task: str, batch_size: int, size: int, boxes: int) -> list[np.ndarray]:
    """Random images, valid sizes and targets, in the order of `Batch.arrays`."""
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 255, (batch_size, size, size, 3), np.uint8), np.full((batch_size, 2), size, np.int32)]
    if task == "classify":
        return [*arrays, np.arange(batch_size, dtype=np.int32)]
    corners = rng.uniform(0, size / 2, (batch_size, boxes, 2))
    labels = np.full((batch_size, boxes), -1, np.int32)
    labels[:, :3] = (0, 1, 1)
    targets = (np.concatenate((corners, corners + size / 3), 2).astype(np.float32), labels, np.float32([size, size]))
    return [*arrays, *targets]


def train(network: str, flags: Sequence[str], sizes: Sequence[int], group_size: int = 1) -> None:
    """Builds the training step as train.py does and calls it with each image size in turn."""
    import mindspore as ms

    from msdet.models.recipe import get_recipe
    from msdet.training.train import build_train_step

    cfg = tiny_config(network, *flags)
    recipe = get_recipe(cfg)
    step, _ = build_train_step(cfg, recipe, recipe.build_network(), group_size)
    for number in range(STEPS):
        for size in sizes:
            batch = make_batch(recipe.task, NETWORKS[network].batch_size, size, BOXES)
            mark_step()
            step.launch(batch, 0.01, number % cfg.accumulate_steps, 0.9, ahead=True).read()
            ms.runtime.synchronize()


def run_step(network: str) -> None:
    train(network, (), [NETWORKS[network].size])


def run_ranks(network: str) -> None:
    from msdet.training import all_reduce

    # Small enough for several buckets in a narrow network.
    all_reduce._BUCKET_SIZE = 1000
    train(network, ("--is_distributed=1",), [NETWORKS[network].size], group_size=2)


def run_mixed(network: str) -> None:
    train(network, MIXED, [NETWORKS[network].size])


def run_sizes(network: str) -> None:
    sizes = [NETWORKS[network].size, 2 * NETWORKS[network].size]
    train(network, ("--training_shape=", f"--multi_scale={sizes[0]},{sizes[1]}"), sizes)


def call(cell: Callable[..., Any], inputs: Sequence[Tensor]) -> None:
    """Calls an inference cell several times."""
    import mindspore as ms

    for _ in range(STEPS):
        mark_step()
        cell(*inputs)
        ms.runtime.synchronize()


def run_predict(network: str) -> None:
    from mindspore import Tensor

    from msdet.evaluation.predictor import PredictCell
    from msdet.models.recipe import get_recipe

    cfg = tiny_config(network)
    recipe = get_recipe(cfg)
    parts = recipe.build_preprocess(), recipe.build_network(), recipe.build_decoder()
    arrays = make_batch("classify", NETWORKS[network].batch_size, cfg.testing_shape, 0)[:2]
    call(PredictCell(*parts, cfg.testing_size).set_train(False), list(map(Tensor, arrays)))


def run_export(network: str, with_preprocess: bool = False) -> None:
    from mindspore import Tensor, dtype_to_nptype

    from msdet.export.spec import DeployCell, ExportSpec
    from msdet.models.recipe import get_recipe

    cfg = tiny_config(network)
    recipe = get_recipe(cfg)
    form = ExportSpec(cfg.testing_size, 1, with_preprocess, detect=True, valid_sizes=with_preprocess)
    inputs = [Tensor(np.zeros(shape, dtype_to_nptype(dtype))) for _, shape, dtype in form.input_specs()]
    call(DeployCell(recipe, recipe.build_network(), form), inputs)


def run_loop(network: str) -> None:
    """Runs train.py for one epoch of three steps on a dataset in the working folder."""
    from msdet.training.step import TrainStep
    from msdet.training.step_report import LaunchedStep, StepReport
    from train import main

    launch, read = TrainStep.launch, LaunchedStep.read

    def launch_marked(step: TrainStep, *batch: Any, **options: Any) -> LaunchedStep:
        mark_step()
        return launch(step, *batch, **options)

    def read_anything(launched: LaunchedStep) -> StepReport:
        # The stubs compute nothing: the values read are arbitrary.
        return replace(read(launched), is_finite=True, scale=1.0, is_stop_requested=False)

    TrainStep.launch, LaunchedStep.read = launch_marked, read_anything
    tiny = NETWORKS[network]
    size = (f"--training_shape={tiny.size}", f"--testing_shape={tiny.size}")
    once = (f"--per_batch_size={tiny.batch_size}", "--max_epoch=1", "--num_parallel_workers=0")
    quiet = ("--run_eval=0", "--progress=off")
    schedule = ("--warmup_epochs=0", "--lr_epochs=", "--log_interval=1")
    # The classes are those of the dataset.
    data = ("--data_dir=data", "--num_classes=0", "--class_names=")
    config = f"--config={ROOT / 'configs' / tiny.config}.yaml"
    code = main([config, "--device_target=Ascend", *tiny.flags, *size, *once, *quiet, *schedule, *data])
    if code:
        raise RuntimeError(f"train.py ended with exit code {code}")


def run_start(flags: Sequence[str]) -> dict[str, Any]:
    """Starts as train.py does with these flags, and gathers the numbers of all ranks."""
    from msdet.config import parse_command_line
    from msdet.runtime.start import start

    runtime = start(parse_command_line(flags, "train"), "train")
    gathered = [data.decode() for data in runtime.gather(f"rank {runtime.rank}".encode())]
    return {"group_size": runtime.group_size, "gathered": gathered}


def run_control() -> None:
    import mindspore as ms
    from mindspore.ops.operations import nn_ops

    lstm = nn_ops.LSTM(input_size=4, hidden_size=4, num_layers=1, has_bias=True, bidirectional=False, dropout=0.0)
    shapes = ((5, 2, 4), (1, 2, 4), (1, 2, 4), (200, 1, 1))

    @ms.jit
    def compiled(*inputs: ms.Tensor) -> tuple[ms.Tensor, ...]:
        return lstm(*inputs)

    compiled(*[ms.Tensor(np.ones(shape, np.float32)) for shape in shapes])


def run(kind: str, network: str, flags: Sequence[str]) -> dict[str, Any]:
    """Runs a case and returns its facts."""
    if kind == "start":
        return run_start(flags)
    import mindspore as ms

    ms.set_context(mode=ms.GRAPH_MODE)
    kinds: dict[str, Callable[[], None]] = {
        "step": lambda: run_step(network),
        "mixed": lambda: run_mixed(network),
        "ranks": lambda: run_ranks(network),
        "sizes": lambda: run_sizes(network),
        "predict": lambda: run_predict(network),
        "export": lambda: run_export(network),
        "export_uint8": lambda: run_export(network, with_preprocess=True),
        "loop": lambda: run_loop(network),
        "control": run_control,
    }
    kinds[kind]()
    return {"device": ms.get_context("device_target")}


def main(argv: Sequence[str]) -> int:
    outcome, kind, network, *flags = argv
    facts: dict[str, Any] = {}
    message = ""
    try:
        facts = run(kind, network, flags)
    except Exception as error:  # noqa: BLE001 - any exception is a result of the probe
        lines = [line for line in str(error).splitlines() if line.strip("- ")]
        message = f"{type(error).__name__}: {' / '.join(lines)}"
    if os.environ.get("RANK_ID", "0") == "0":
        Path(outcome).write_text(json.dumps({"error": message, "facts": facts}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
