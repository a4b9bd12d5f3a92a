"""The command `msdet train`: builds data, network, optimizer and hooks, and trains."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import mindspore as ms
import numpy as np
from mindspore import Tensor, amp, nn

from msdet.checkpoints.card import apply_backbone_card
from msdet.checkpoints.state import CheckpointFolder, Snapshot, load_snapshot
from msdet.config import diff_configs
from msdet.errors import UsageError, UserError
from msdet.evaluation.command import TASKS, build_task
from msdet.evaluation.evaluator import EvaluationStopped, Evaluator
from msdet.evaluation.gather import with_rank0_statistics
from msdet.evaluation.predictor import CheckpointPredictor
from msdet.models.recipe import Recipe, get_recipe, task_of
from msdet.runtime.device import amp_level, computes_in_float16, device_traits, uses_dynamic_shapes
from msdet.runtime.modelarts import on_modelarts, try_upload
from msdet.runtime.run_folder import acquire_run_folder
from msdet.runtime.stop import StopRequest
from msdet.session.datasets import fingerprint, open_dataset, training_loader
from msdet.session.session import Session
from msdet.training.all_reduce import AllReduceMean
from msdet.training.device_layers import use_device_layers
from msdet.training.hooks.checkpoints import SaveCheckpoints
from msdet.training.hooks.curves import Curves
from msdet.training.hooks.evaluation import Evaluate
from msdet.training.hooks.failed_step import KeepFailedStep
from msdet.training.hooks.interval import EveryEpochs
from msdet.training.hooks.log import AnnounceCompiles, CompileProgress, Heartbeat, LogLines, ProgressBar
from msdet.training.hooks.named import named_hooks
from msdet.training.hooks.profile import Profile
from msdet.training.initial_weights import freeze_batch_norm, load_initial_weights
from msdet.training.loop import Hook, Trainer
from msdet.training.quantization_aware import QuantSchedule, add_ranges, calibrate, has_ranges, require_float_weights
from msdet.training.schedules import build_schedule, schedule_warnings
from msdet.training.step import LossCell, StepOptions, TrainStep

if TYPE_CHECKING:
    from msdet.config import Config
    from msdet.data.loading.loader import BatchLoader

log = logging.getLogger(__name__)


@on_modelarts
def train(cfg: Config) -> int:
    """Trains according to the configuration; returns the exit code (130 or 143 after a signal).

    Raises:
        UserError: data, weights or device do not match the configuration, or the training failed.
    """
    if cfg.pretrained_epochs and not cfg.pretrained:
        where = cfg.where("pretrained_epochs")
        raise UsageError(
            f"{where} is {cfg.pretrained_epochs}, but pretrained is empty: give the weights that it is about"
        )
    with StopRequest().by_signals() as stop, ExitStack() as stack:
        session = Session(cfg, "train", stop)
        notes: list[str] = []
        folder, manifest = acquire_run_folder(cfg, session.runtime, notes, stack)
        session.log_to(folder, of_every_rank=True)
        for note in notes:
            log.warning(note)
        _train(session, folder, manifest)
    return stop.exit_code


def _train(session: Session, folder: Path, manifest: Path | None) -> None:
    """Trains in the run folder, resuming from a checkpoint if its manifest is given."""
    resumed = load_snapshot(manifest) if manifest else None
    require_float_weights(session.cfg)
    user_hooks = named_hooks(session.cfg.hooks, session.cfg.where("hooks"))
    if session.cfg.pretrained:
        session.load_weights(with_classes=False)
    if session.cfg.pretrained_backbone:
        session.cfg = apply_backbone_card(session.cfg, Path(session.cfg.pretrained_backbone))
    _warn_of_schedule(session.cfg)
    session.open_dataset("train")
    network = session.recipe.build_network()
    if resumed is None:
        _init_weights(session, network)
    if session.runtime.is_master:
        session.cfg.save(folder / "config.yaml")
    with training_loader(
        session.cfg,
        session.dataset,
        session.recipe.train_pipeline(),
        session.runtime,
        session.stop,
        session.recipe.mosaic(),
    ) as loader:
        trainer = _trainer(session, network, loader, folder)
        if manifest is not None and resumed is not None:
            _resume(trainer, manifest, resumed)
        else:
            trainer.start_at_epoch(session.cfg.pretrained_epochs)
        evaluator = _evaluator(session) if session.cfg.run_eval else None
        try:
            trainer.fit([*_hooks(trainer, evaluator), *user_hooks])
        finally:
            if evaluator is not None:
                evaluator.loader.close()
    log.info("checkpoints: %s", folder / f"ckpt_{session.runtime.rank}")
    log.info("curves: %s", _summary_folder(session.cfg, folder) / "curves.png")


def _warn_of_schedule(cfg: Config) -> None:
    """Logs warnings about unlikely schedules."""
    for sentence in schedule_warnings(
        cfg.lr_scheduler,
        cfg.lr,
        cfg.max_epoch,
        warmup_epochs=cfg.warmup_epochs,
        lr_epochs=cfg.lr_epochs,
        t_max=cfg.t_max,
        lr_warmup_init=cfg.lr_warmup_init,
    ):
        log.warning("%s", sentence)
    if cfg.save_checkpoint and cfg.ckpt_interval > cfg.max_epoch:
        # The YOLOs of the old zoo counted steps.
        where = cfg.where("ckpt_interval")
        log.warning("%s is %d epochs, not steps: the only checkpoint is saved at the end", where, cfg.ckpt_interval)


def _init_weights(session: Session, network: nn.Cell) -> None:
    """Loads the initial weights into a new network, and calibrates its ranges if it is quantized."""
    cfg, recipe, weights = session.cfg, session.recipe, session.weights
    needs_ranges = cfg.quantization_aware and not has_ranges(weights)
    load_initial_weights(network, recipe, add_ranges(network, weights) if needs_ranges else weights, session.card)
    if needs_ranges:
        calibrate(cfg, recipe, network, session.dataset, session.runtime)


def _trainer(session: Session, network: nn.Cell, loader: BatchLoader, folder: Path) -> Trainer:
    cfg, recipe, dataset = session.cfg, session.recipe, session.dataset
    step, loss_names = build_train_step(cfg, recipe, network, session.runtime.group_size)
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
        cfg.lr_warmup_init,
    )
    card = recipe.card(list(dataset.category_ids))
    return Trainer(
        cfg, session.runtime, step, loss_names, loader, schedule, folder, card, fingerprint(dataset), session.stop
    )


def build_train_step(cfg: Config, recipe: Recipe, network: nn.Cell, group_size: int) -> tuple[TrainStep, Sequence[str]]:
    """Builds the training step of a configuration; returns it with the names of its losses.

    Args:
        cfg: resolved configuration.
        recipe: of the model.
        network: built by the recipe.
        group_size: number of processes.
    """
    level = amp_level(cfg)
    if level != "O0":
        network = amp.auto_mixed_precision(network, level)
    if cfg.freeze_bn:
        freeze_batch_norm(network)
    use_device_layers(network)
    criterion = recipe.build_criterion()
    is_half = computes_in_float16(cfg)
    options = StepOptions(
        momentum=cfg.momentum,
        weight_decay=cfg.weight_decay,
        decay_norm_and_bias=cfg.decay_norm_and_bias,
        loss_weight=cfg.loss_weight,
        clip_norm=cfg.clip_grad_norm,
        clip_norm_each=cfg.clip_grad_norm_each,
        accumulate_steps=cfg.accumulate_steps,
        ema_decay=cfg.ema_decay,
        # A loss scale protects half precision only; in float32 it would only change the rounding.
        loss_scale=cfg.loss_scale if is_half else 1.0,
        dynamic_loss_scale=cfg.dynamic_loss_scale and is_half,
        max_skips=cfg.max_skipped_steps if is_half else 1,
        checks_status=device_traits().saturates,
        splits_in_one_op=device_traits().is_ascend,
    )
    mean = AllReduceMean(group_size) if group_size > 1 else None
    step = TrainStep(LossCell(recipe.build_preprocess(), network, criterion), options, mean)
    step.set_train()
    if len(cfg.training_sizes) > 1 and uses_dynamic_shapes(cfg):
        _declare_dynamic_shapes(step)
    return step, criterion.loss_names


def _declare_dynamic_shapes(step: TrainStep) -> None:
    """Declares dynamic shapes: one compile serves all training sizes and numbers of boxes. A step with static shapes is
    1.2 to 1.6 times faster."""
    step.set_inputs(
        Tensor(shape=[4], dtype=ms.float32),
        Tensor(shape=[None, None, None, 3], dtype=ms.uint8),
        Tensor(shape=[None, 2], dtype=ms.int32),
        Tensor(shape=[None, None, 4], dtype=ms.float32),
        Tensor(shape=[None, None], dtype=ms.int32),
        Tensor(shape=[2], dtype=ms.float32),
    )


def _resume(trainer: Trainer, manifest: Path, snapshot: Snapshot) -> None:
    """Resumes from a checkpoint if configuration, data and number of processes are unchanged.

    Raises:
        UserError: they changed, and `resume_force` is not set.
    """
    reasons = [
        f"{name} was {old!r} and is {new!r}" for name, (old, new) in diff_configs(snapshot.config, trainer.cfg).items()
    ]
    if snapshot.dataset != trainer.dataset:
        reasons.append("the training data (images, boxes or classes) has changed")
    ranks = snapshot.progress.get("group_size", trainer.runtime.group_size)
    if ranks != trainer.runtime.group_size:
        reasons.append(f"the number of processes was {ranks} and is {trainer.runtime.group_size}")
    if reasons and not trainer.cfg.resume_force:
        raise UserError(
            f"{manifest} was saved with other settings: {'; '.join(reasons[:5])}.\n"
            "Restore them, start a new run with --pretrained, or resume nevertheless with --resume_force=True."
        )
    trainer.restore(snapshot, manifest)
    for reason in reasons:
        log.warning("resumed although %s", reason)
    log.info("resumed from %s: epoch %d, step %d", manifest, trainer.epoch, trainer.step)
    if trainer.steps_left == 0:
        log.warning(
            "this run is complete: epoch %d of max_epoch %d is done. To continue training, set --max_epoch higher, "
            "with --resume_force True",
            *(trainer.epoch, trainer.cfg.max_epoch),
        )


def _evaluator(session: Session) -> Evaluator[CheckpointPredictor]:
    dataset, cfg = open_dataset(session.cfg, "val")
    recipe = get_recipe(cfg)
    return Evaluator(build_task(recipe, dataset), CheckpointPredictor(recipe), session.runtime, session.stop)


def _summary_folder(cfg: Config, folder: Path) -> Path:
    """Folder of the curves; in a common `summary_dir` each run has its own subfolder, as TensorBoard expects."""
    return Path(cfg.summary_dir) / folder.name if cfg.summary_dir else folder / "summary"


def _hooks(trainer: Trainer, evaluator: Evaluator[CheckpointPredictor] | None) -> list[Hook]:
    """The list of hooks, in order. A checkpoint is saved before it is evaluated, so that a failing evaluation costs no
    trained epoch; curves are written before both, so that they contain every step up to a checkpoint."""
    cfg, folder, master = trainer.cfg, trainer.folder, trainer.runtime.is_master
    is_writer = cfg.save_checkpoint and (master or not cfg.is_save_on_master)
    checkpoints = CheckpointFolder(folder / f"ckpt_{trainer.runtime.rank}", cfg.model, cfg.keep_checkpoint_max)
    saver = SaveCheckpoints(checkpoints, cfg.ckpt_interval, is_writer)
    lines = LogLines(cfg.log_interval)
    hooks: list[Hook] = [Heartbeat(), CompileProgress(), lines, KeepFailedStep()]
    if task_of(cfg) == "detect":
        # All batches of a classifier have the same shape.
        hooks.insert(2, AnnounceCompiles(len(cfg.training_sizes) > 1 and uses_dynamic_shapes(cfg)))
    if cfg.quantization_aware:
        hooks.append(QuantSchedule())
    if cfg.need_profiler and master:
        hooks.append(Profile(folder / "profile"))
    if master and (cfg.progress == "bar" or (cfg.progress == "auto" and sys.stderr.isatty())):
        hooks.append(ProgressBar())
    curves = Curves(_summary_folder(cfg, folder), TASKS[task_of(cfg)].SCORE_NAMES)
    if master:
        hooks.append(curves)
    hooks.append(saver)
    if evaluator is not None:
        best = checkpoints.folder / f"{cfg.model}-best.ckpt" if cfg.save_best_ckpt and is_writer else None
        on_scored = [curves.write_evaluation, _prune_detections] if master else []
        score = _score_function(trainer, evaluator, lines)
        hooks.append(Evaluate(score, saver, cfg.eval_start_epoch, cfg.eval_interval, best, on_scored))
    if cfg.enable_modelarts and is_writer:
        hooks.append(EveryEpochs(lambda: try_upload(cfg), cfg.ckpt_interval))
    return hooks


def _score_function(
    trainer: Trainer, evaluator: Evaluator[CheckpointPredictor], lines: LogLines
) -> Callable[[Mapping[str, np.ndarray]], dict[str, float] | None]:
    """Returns a function from weights to validation scores, equal on all ranks; it returns None if it was stopped."""

    def score(weights: Mapping[str, np.ndarray]) -> dict[str, float] | None:
        with lines.paused():
            weights = with_rank0_statistics(weights, trainer.trainable_names(), trainer.runtime)
            evaluator.predictor.load(weights, trainer.folder)
            task = evaluator.task
            try:
                collected = evaluator.collect(detections_file(trainer.folder, trainer.epoch))
            except EvaluationStopped:
                return None
            own = [0.0] * len(task.SCORE_NAMES) if collected is None else task.headline_scores(task.score(collected))
            # All ranks use the scores of rank 0.
            scores = trainer.runtime.gather_numbers(own)[0].tolist()
            return dict(zip(task.SCORE_NAMES, scores, strict=True))

    return score


def detections_file(folder: Path, epoch: int) -> Path:
    """File of the validation detections of a run after an epoch."""
    return folder / "eval" / f"detections_{epoch}.json"


def _prune_detections(trainer: Trainer, scores: Mapping[str, float]) -> None:
    """Keeps only the detections of the latest and the best epoch: one file for COCO takes hundreds of megabytes."""
    del scores
    epochs = (trainer.epoch, trainer.best_epoch)
    kept = {detections_file(trainer.folder, epoch) for epoch in epochs if epoch is not None}
    folder = detections_file(trainer.folder, 0).parent
    # Hidden files are remains of a process that was killed: nothing else writes to this run folder.
    for path in [*folder.glob("detections_*.json"), *folder.glob(".detections_*")]:
        if path not in kept:
            path.unlink(missing_ok=True)
