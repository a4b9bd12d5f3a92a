"""What train.py does: puts data, network, optimiser and hooks together, and trains."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, amp, nn

from src.common.schedules import build_schedule
from src.config import diff_configs
from src.engine.cards import apply_backbone_card, apply_card
from src.engine.checkpoints import CheckpointFolder, Snapshot, load_snapshot, manifest_of, newest_whole
from src.engine.classify import ClassEvaluator
from src.engine.curves import Curves
from src.engine.datasets import fingerprint, open_dataset, training_loader
from src.engine.evaluate import EvaluationStopped, Evaluator
from src.engine.hooks import (
    AfterEpochs,
    AnnounceCompiles,
    Beat,
    Evaluate,
    Heartbeat,
    Hook,
    LogLines,
    Profile,
    ProgressBar,
    SaveCheckpoints,
)
from src.engine.merge import with_masters_statistics
from src.engine.modelarts import on_modelarts, try_to_deliver
from src.engine.quantized import QuantSchedule, calibrate, has_ranges, require_float_weights, with_ranges
from src.engine.runtime import Runtime, start, start_logging
from src.engine.signals import StopOnSignal
from src.engine.starts import freeze_batch_norm, start_from
from src.engine.train_step import LossCell, MeanOverRanks, StepOptions, TrainStep
from src.engine.trainer import Trainer
from src.engine.weights_file import load_weights
from src.errors import UsageError, UserError
from src.recipe import Recipe, get_recipe, task_of

if TYPE_CHECKING:
    from src.config import Config
    from src.data.imagefolder import ImageFolder
    from src.data.sample import DetectionDataset

log = logging.getLogger(__name__)


@on_modelarts
def train(cfg: Config) -> int:
    """Trains as the configuration says; returns the exit code (130 or 143 after a signal).

    Raises:
        UserError: data, weights or device do not fit; nothing was trained then.
    """
    with StopOnSignal() as stop:
        return _train(cfg, stop)


def _train(cfg: Config, stop: StopOnSignal) -> int:
    runtime = start(cfg)
    notes: list[str] = []
    folder, resumed = _run_folder(cfg, runtime, notes)
    start_logging(folder / (f"log_{runtime.rank}.txt" if runtime.rank else "log.txt"), runtime.rank)
    for note in notes:
        log.warning(note)
    require_float_weights(cfg)
    weights, card = load_weights(Path(cfg.pretrained)) if cfg.pretrained else ({}, {})
    cfg = apply_card(cfg, card, Path(cfg.pretrained), with_classes=False)
    if cfg.pretrained_backbone:
        cfg = apply_backbone_card(cfg, Path(cfg.pretrained_backbone))
    dataset, cfg = open_dataset(cfg, "train")
    recipe = get_recipe(cfg)
    network = recipe.build_network()
    if resumed is None:
        is_new = cfg.quantization_aware and not has_ranges(weights)
        start_from(network, recipe, with_ranges(network, weights) if is_new else weights, card)
        if is_new:
            calibrate(cfg, recipe, network, dataset, runtime)
    if runtime.is_master:
        cfg.save(folder / "config.yaml")
    with training_loader(cfg, dataset, recipe.train_pipeline(), runtime) as loader:
        trainer = _trainer(cfg, runtime, recipe, network, dataset, loader, folder)
        if resumed is not None:
            _resume(trainer, *resumed)
        else:
            trainer.skip_epochs(recipe.first_epoch())
        evaluator = _evaluator(cfg, runtime) if cfg.run_eval else None
        try:
            trainer.fit(_hooks(trainer, evaluator, stop))
        finally:
            if evaluator is not None:
                evaluator.loader.close()
    log.info("checkpoints: %s", folder / f"ckpt_{runtime.rank}")
    log.info("curves: %s", _summary_folder(cfg, folder) / "curves.png")
    return stop.exit_code


def _run_folder(cfg: Config, runtime: Runtime, notes: list[str]) -> tuple[Path, tuple[Path, Snapshot] | None]:
    """The folder of this run; with `resume` that of the run which goes on, and the checkpoint to go on from.

    Args:
        notes: gets what the log is to say about the search, as the log stands in that folder.

    Raises:
        UserError: ranks on several machines do not see the same checkpoints.
    """
    # The clocks of several ranks need not agree.
    name = runtime.of_master(cfg.run_name or f"{datetime.now():%Y-%m-%d_time_%H_%M_%S}")
    folder, resumed = _find_run(cfg, Path(cfg.ckpt_path) / name, notes)
    found = resumed[0].name if resumed else ""
    if runtime.of_master(found) != found:
        raise UserError(
            f"rank {runtime.rank} would go on from {found or 'nothing'}, rank 0 from another checkpoint: "
            f"ckpt_path {cfg.ckpt_path} must be one folder that all machines see"
        )
    return folder, resumed


def _find_run(cfg: Config, fresh: Path, notes: list[str]) -> tuple[Path, tuple[Path, Snapshot] | None]:
    root = Path(cfg.ckpt_path)
    if not cfg.resume:
        if cfg.run_name and any(fresh.glob("ckpt_*/*.state.json")):
            raise UsageError(
                f"{fresh} already holds a run: set --resume=auto to continue it, or choose another --run_name"
            )
        return fresh, None
    if cfg.resume != "auto":
        manifest = manifest_of(Path(cfg.resume))
        # The file may be named from within its folder.
        return manifest.absolute().parent.parent, (manifest, load_snapshot(manifest))
    runs = [fresh] if cfg.run_name else sorted(root.glob("*/"), key=_newest_state, reverse=True)
    found = newest_whole([folder for run in [*runs, root] for folder in sorted(run.glob("ckpt_*/"))], notes)
    if found is None:
        notes.append(f"resume=auto: {root} holds no whole checkpoint; training starts anew")
        return fresh, None
    return found[0].parent.parent, found


def _newest_state(run: Path) -> float:
    return max((path.stat().st_mtime for path in run.glob("ckpt_*/*.state.json")), default=0.0)


def _trainer(
    cfg: Config,
    runtime: Runtime,
    recipe: Recipe,
    network: nn.Cell,
    dataset: DetectionDataset | ImageFolder,
    loader: Any,
    folder: Path,
) -> Trainer:
    step, loss_names = build_train_step(cfg, recipe, network, runtime.group_size)
    schedule = build_schedule(
        cfg.lr_scheduler,
        cfg.lr,
        loader.steps_per_epoch,
        cfg.max_epoch,
        cfg.warmup_epochs,
        cfg.lr_epochs,
        cfg.lr_gamma,
        cfg.eta_min,
        cfg.t_max,
    )
    card = recipe.card(list(dataset.category_ids))
    return Trainer(cfg, runtime, step, loss_names, loader, schedule, folder, card, fingerprint(dataset))


def build_train_step(cfg: Config, recipe: Recipe, network: nn.Cell, group_size: int) -> tuple[TrainStep, Sequence[str]]:
    """The step that a configuration describes, and the names of its losses.

    Args:
        cfg: resolved configuration.
        recipe: of the model.
        network: built by the recipe.
        group_size: number of processes.
    """
    if cfg.amp_level != "O0":
        network = amp.auto_mixed_precision(network, cfg.amp_level)
    if cfg.freeze_bn:
        freeze_batch_norm(network)
    criterion = recipe.build_criterion()
    options = StepOptions(
        momentum=cfg.momentum,
        weight_decay=cfg.weight_decay,
        decay_norm_and_bias=cfg.decay_norm_and_bias,
        loss_weight=cfg.loss_weight,
        clip_norm=cfg.clip_grad_norm,
        accumulate_steps=cfg.accumulate_steps,
        ema_decay=cfg.ema_decay,
        # A scale guards half precision only; in float32 it would change nothing but the rounding.
        loss_scale=cfg.loss_scale if cfg.amp_level != "O0" else 1.0,
        dynamic_loss_scale=cfg.dynamic_loss_scale and cfg.amp_level != "O0",
    )
    mean = MeanOverRanks(group_size) if group_size > 1 else None
    step = TrainStep(LossCell(recipe.build_preprocess(), network, criterion), options, mean)
    step.set_train()
    if len(cfg.training_sizes) > 1:
        _declare_dynamic(step)
    return step, criterion.loss_names


def _declare_dynamic(step: TrainStep) -> None:
    """One compile for all training sizes and numbers of boxes; a step of fixed shapes is 1.2 to 1.6 times faster."""
    step.set_inputs(
        Tensor(shape=[], dtype=ms.float32),
        Tensor(shape=[], dtype=ms.int32),
        Tensor(shape=[], dtype=ms.float32),
        Tensor(shape=[None, None, None, 3], dtype=ms.uint8),
        Tensor(shape=[None, 2], dtype=ms.int32),
        Tensor(shape=[None, None, 4], dtype=ms.float32),
        Tensor(shape=[None, None], dtype=ms.int32),
        Tensor(shape=[2], dtype=ms.float32),
    )


def _resume(trainer: Trainer, manifest: Path, snapshot: Snapshot) -> None:
    """Continues from a checkpoint, if configuration and data are those it was made with.

    Raises:
        UserError: they are not, and `resume_force` is not set.
    """
    reasons = [
        f"{name} was {old!r} and is {new!r}" for name, (old, new) in diff_configs(snapshot.config, trainer.cfg).items()
    ]
    if snapshot.dataset != trainer.dataset:
        reasons.append("the training data (images, boxes or classes) is another")
    ranks = snapshot.progress.get("group_size", trainer.runtime.group_size)
    if ranks != trainer.runtime.group_size:
        reasons.append(f"the number of processes was {ranks} and is {trainer.runtime.group_size}")
    if reasons and not trainer.cfg.resume_force:
        raise UserError(
            f"{manifest} was made with another setting: {'; '.join(reasons[:5])}.\n"
            "Set it back, start a new run with --pretrained, or go on all the same with --resume_force=True."
        )
    trainer.restore(snapshot, manifest)
    for reason in reasons:
        log.warning("resumed although %s", reason)
    log.info("resumed from %s: epoch %d, step %d", manifest, trainer.epoch, trainer.step)


def _evaluator(cfg: Config, runtime: Runtime) -> Evaluator:
    dataset, cfg = open_dataset(cfg, "val")
    recipe = get_recipe(cfg)
    if recipe.task == "classify":
        return ClassEvaluator(cfg, recipe, dataset, runtime)
    return Evaluator(cfg, recipe, dataset, runtime)


def _summary_folder(cfg: Config, folder: Path) -> Path:
    return Path(cfg.summary_dir) if cfg.summary_dir else folder / "summary"


def _hooks(trainer: Trainer, evaluator: Evaluator | None, stop: StopOnSignal) -> list[Hook]:
    """The visible list. Evaluation stands before saving, so that a checkpoint knows the best score so far, and so do
    the curves, so that no step before a checkpoint is missing in them."""
    cfg, folder, master = trainer.cfg, trainer.folder, trainer.runtime.is_master
    is_writer = cfg.save_checkpoint and (master or not cfg.is_save_on_master)
    checkpoints = CheckpointFolder(folder / f"ckpt_{trainer.runtime.rank}", cfg.model, cfg.keep_checkpoint_max)
    lines = LogLines(cfg.log_interval)
    hooks: list[Hook] = [stop, Beat(), Heartbeat(), lines]
    if task_of(cfg) == "detect":
        # Batches of a classifier are all of one shape.
        hooks.insert(-1, AnnounceCompiles(len(cfg.training_sizes) > 1))
    if cfg.quantization_aware:
        hooks.append(QuantSchedule())
    if cfg.need_profiler and master:
        hooks.append(Profile(folder / "profile"))
    if master and (cfg.progress == "bar" or (cfg.progress == "auto" and sys.stderr.isatty())):
        hooks.append(ProgressBar())
    curves = Curves(_summary_folder(cfg, folder), evaluator.SCORES if evaluator else Evaluator.SCORES)
    if master:
        hooks.append(curves)
    if evaluator is not None:
        best = checkpoints.folder / f"{cfg.model}-best.ckpt" if cfg.save_best_ckpt and is_writer else None

        evaluator.is_stopped = lambda: trainer.stop_requested

        def score(weights: Mapping[str, np.ndarray]) -> dict[str, float] | None:
            evaluator.load(with_masters_statistics(weights, trainer.trainable_names(), trainer.runtime), folder)
            try:
                result = evaluator.score(folder / "eval" / f"detections_{trainer.epoch}.json")
            except EvaluationStopped:
                return None
            lines.restart_clock()
            # What rank 0 has scored, on all ranks.
            numbers = trainer.runtime.gather_numbers(evaluator.numbers(result))[0].tolist()
            return dict(zip(evaluator.SCORES, numbers, strict=True))

        tell = [curves.write_evaluation] if master else []
        hooks.append(Evaluate(score, cfg.eval_start_epoch, cfg.eval_interval, best, tell))
    hooks.append(SaveCheckpoints(checkpoints, cfg.ckpt_interval, is_writer))
    if cfg.enable_modelarts and is_writer:
        hooks.append(AfterEpochs(lambda: try_to_deliver(cfg), cfg.ckpt_interval))
    return hooks
