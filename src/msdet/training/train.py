"""What train.py does: puts data, network, optimiser and hooks together, and trains."""

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
from msdet.errors import UserError
from msdet.evaluation.command import TASKS, task_for
from msdet.evaluation.evaluator import EvaluationStopped, Evaluator
from msdet.evaluation.gather import with_masters_statistics
from msdet.evaluation.predictor import CheckpointPredictor
from msdet.models.recipe import Recipe, get_recipe, task_of
from msdet.runtime.device import amp_level, computes_in_float16, device_traits, uses_dynamic_shapes
from msdet.runtime.modelarts import on_modelarts, try_upload
from msdet.runtime.run_folder import acquire_run_folder
from msdet.runtime.stop import StopRequest
from msdet.session.datasets import fingerprint, open_dataset, training_loader
from msdet.session.session import Session
from msdet.training.all_reduce import MeanOverRanks
from msdet.training.device_layers import suit
from msdet.training.hooks.actions import AfterEpochs
from msdet.training.hooks.checkpoints import SaveCheckpoints
from msdet.training.hooks.curves import Curves
from msdet.training.hooks.evaluation import Evaluate
from msdet.training.hooks.failed_step import KeepFailedStep
from msdet.training.hooks.log import AnnounceCompiles, Beat, Heartbeat, LogLines, ProgressBar
from msdet.training.hooks.named import named_hooks
from msdet.training.hooks.profile import Profile
from msdet.training.loop import Hook, Trainer
from msdet.training.quantization_aware import QuantSchedule, calibrate, has_ranges, require_float_weights, with_ranges
from msdet.training.schedules import build_schedule, schedule_warnings
from msdet.training.start_weights import freeze_batch_norm, start_from
from msdet.training.step import LossCell, StepOptions, TrainStep

if TYPE_CHECKING:
    from msdet.config import Config
    from msdet.data.loading.loader import BatchLoader

log = logging.getLogger(__name__)


@on_modelarts
def train(cfg: Config) -> int:
    """Trains as the configuration says; returns the exit code (130 or 143 after a signal).

    Raises:
        UserError: data, weights or device do not fit; nothing was trained then.
    """
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
    """Trains in the folder of the run, from a checkpoint if its manifest is given."""
    resumed = load_snapshot(manifest) if manifest else None
    require_float_weights(session.cfg)
    own_hooks = named_hooks(session.cfg.hooks, session.cfg.where("hooks"))
    if session.cfg.pretrained:
        session.load_weights(with_classes=False)
    if session.cfg.pretrained_backbone:
        session.cfg = apply_backbone_card(session.cfg, Path(session.cfg.pretrained_backbone))
    _warn(session.cfg)
    session.open_dataset("train")
    network = session.recipe.build_network()
    if resumed is None:
        _fill(session, network)
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
            trainer.skip_epochs(session.recipe.first_epoch())
        evaluator = _evaluator(session) if session.cfg.run_eval else None
        try:
            trainer.fit([*_hooks(trainer, evaluator), *own_hooks])
        finally:
            if evaluator is not None:
                evaluator.loader.close()
    log.info("checkpoints: %s", folder / f"ckpt_{session.runtime.rank}")
    log.info("curves: %s", _summary_folder(session.cfg, folder) / "curves.png")


def _warn(cfg: Config) -> None:
    """Of a schedule that is hardly meant so."""
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
        # Typed by those who come from the old zoo's YOLOs, which counted steps.
        where = cfg.where("ckpt_interval")
        log.warning("%s is %d epochs, not steps: the only checkpoint is written at the end", where, cfg.ckpt_interval)


def _fill(session: Session, network: nn.Cell) -> None:
    """Gives a new network the weights that the training starts from, and ranges if it is quantized."""
    cfg, recipe, weights = session.cfg, session.recipe, session.weights
    needs_ranges = cfg.quantization_aware and not has_ranges(weights)
    start_from(network, recipe, with_ranges(network, weights) if needs_ranges else weights, session.card)
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
    """The step that a configuration describes, and the names of its losses.

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
    suit(network)
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
        # A scale guards half precision only; in float32 it would change nothing but the rounding.
        loss_scale=cfg.loss_scale if is_half else 1.0,
        dynamic_loss_scale=cfg.dynamic_loss_scale and is_half,
        most_skips=cfg.max_skipped_steps if is_half else 1,
        asks_for_status=device_traits().saturates,
        splits_at_once=device_traits().is_ascend,
    )
    mean = MeanOverRanks(group_size) if group_size > 1 else None
    step = TrainStep(LossCell(recipe.build_preprocess(), network, criterion), options, mean)
    step.set_train()
    if len(cfg.training_sizes) > 1 and uses_dynamic_shapes(cfg):
        _declare_dynamic(step)
    return step, criterion.loss_names


def _declare_dynamic(step: TrainStep) -> None:
    """One compile for all training sizes and numbers of boxes; a step of fixed shapes is 1.2 to 1.6 times faster."""
    step.set_inputs(
        Tensor(shape=[4], dtype=ms.float32),
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
    if trainer.steps_left == 0:
        log.warning(
            "this run is finished: epoch %d of max_epoch %d is done. To train on, set --max_epoch higher, with "
            "--resume_force True",
            *(trainer.epoch, trainer.cfg.max_epoch),
        )


def _evaluator(session: Session) -> Evaluator[CheckpointPredictor]:
    dataset, cfg = open_dataset(session.cfg, "val")
    recipe = get_recipe(cfg)
    return Evaluator(task_for(recipe, dataset), CheckpointPredictor(recipe), session.runtime, session.stop)


def _summary_folder(cfg: Config, folder: Path) -> Path:
    """In a folder for the curves of several runs each has one of its own, as TensorBoard shows them."""
    return Path(cfg.summary_dir) / folder.name if cfg.summary_dir else folder / "summary"


def _hooks(trainer: Trainer, evaluator: Evaluator[CheckpointPredictor] | None) -> list[Hook]:
    """The visible list. A checkpoint is saved before it is scored, so that no evaluation costs a trained epoch; the
    curves stand before both, so that no step before a checkpoint is missing in them."""
    cfg, folder, master = trainer.cfg, trainer.folder, trainer.runtime.is_master
    is_writer = cfg.save_checkpoint and (master or not cfg.is_save_on_master)
    checkpoints = CheckpointFolder(folder / f"ckpt_{trainer.runtime.rank}", cfg.model, cfg.keep_checkpoint_max)
    saver = SaveCheckpoints(checkpoints, cfg.ckpt_interval, is_writer)
    lines = LogLines(cfg.log_interval)
    hooks: list[Hook] = [Beat(), Heartbeat(), lines, KeepFailedStep()]
    if task_of(cfg) == "detect":
        # Batches of a classifier are all of one shape.
        hooks.insert(2, AnnounceCompiles(len(cfg.training_sizes) > 1 and uses_dynamic_shapes(cfg)))
    if cfg.quantization_aware:
        hooks.append(QuantSchedule())
    if cfg.need_profiler and master:
        hooks.append(Profile(folder / "profile"))
    if master and (cfg.progress == "bar" or (cfg.progress == "auto" and sys.stderr.isatty())):
        hooks.append(ProgressBar())
    curves = Curves(_summary_folder(cfg, folder), TASKS[task_of(cfg)].SCORES)
    if master:
        hooks.append(curves)
    hooks.append(saver)
    if evaluator is not None:
        best = checkpoints.folder / f"{cfg.model}-best.ckpt" if cfg.save_best_ckpt and is_writer else None
        tell = [curves.write_evaluation, _prune_detections] if master else []
        score = _scoring(trainer, evaluator, lines)
        hooks.append(Evaluate(score, saver, cfg.eval_start_epoch, cfg.eval_interval, best, tell))
    if cfg.enable_modelarts and is_writer:
        hooks.append(AfterEpochs(lambda: try_upload(cfg), cfg.ckpt_interval))
    return hooks


def _scoring(
    trainer: Trainer, evaluator: Evaluator[CheckpointPredictor], lines: LogLines
) -> Callable[[Mapping[str, np.ndarray]], dict[str, float] | None]:
    """Function from weights to the scores of the validation images, alike on all ranks; None if it was stopped."""

    def score(weights: Mapping[str, np.ndarray]) -> dict[str, float] | None:
        with lines.paused():
            weights = with_masters_statistics(weights, trainer.trainable_names(), trainer.runtime)
            evaluator.predictor.load(weights, trainer.folder)
            task = evaluator.task
            try:
                collected = evaluator.collect(detections_file(trainer.folder, trainer.epoch))
            except EvaluationStopped:
                return None
            own = [0.0] * len(task.SCORES) if collected is None else task.numbers(task.score(collected))
            # What rank 0 has scored, on all ranks.
            numbers = trainer.runtime.gather_numbers(own)[0].tolist()
            return dict(zip(task.SCORES, numbers, strict=True))

    return score


def detections_file(folder: Path, epoch: int) -> Path:
    """Where a run keeps the detections of the validation images after an epoch."""
    return folder / "eval" / f"detections_{epoch}.json"


def _prune_detections(trainer: Trainer, scores: Mapping[str, float]) -> None:
    """Keeps the detections of the newest and of the best epoch: those of one on COCO take hundreds of megabytes."""
    del scores
    epochs = (trainer.epoch, trainer.best_epoch)
    kept = {detections_file(trainer.folder, epoch) for epoch in epochs if epoch is not None}
    folder = detections_file(trainer.folder, 0).parent
    # Hidden ones were being written by a process that was killed: nobody else writes to the folder of this run.
    for path in [*folder.glob("detections_*.json"), *folder.glob(".detections_*")]:
        if path not in kept:
            path.unlink(missing_ok=True)
