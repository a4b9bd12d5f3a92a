"""A training step whose loss or gradient is not finite: kept on disk with all it depends on, and run again."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mindspore as ms
import numpy as np
from mindspore import Tensor

from msdet.checkpoints.weights_file import fill_network, load_weights, save_weights
from msdet.config import load_config
from msdet.errors import UserError
from msdet.files import atomic_path, read_json, write_json
from msdet.training.loop import Trainer

if TYPE_CHECKING:
    from msdet.config import Config
    from msdet.data.loading.batch import ImageBatch
    from msdet.training.step import TrainStep

_REPORT, _BATCH, _WEIGHTS, _CONFIG = "report.json", "batch.npz", "weights.ckpt", "config.yaml"


def save_failed_step(trainer: Trainer, batch: ImageBatch, losses: Sequence[float]) -> Path:
    """Writes `debug/step_S/` in the folder of the run: report, batch, weights and configuration.

    Args:
        trainer: its weights are those that the step used, since a step that is not finite changes none; its result is
            that of the step.
        batch: of this rank.
        losses: each loss on this rank.

    Returns:
        the folder; of several ranks each has one of its own in it.

    Raises:
        UserError: it cannot be written.
    """
    folder = trainer.folder / "debug" / f"step_{trainer.step}"
    if trainer.runtime.group_size > 1:
        folder /= f"rank_{trainer.runtime.rank}"
    content = {name: np.array(array) for name, array in batch.arrays().items()}
    with atomic_path(folder / _BATCH) as beside:
        np.savez_compressed(beside, **content)
    card = {**trainer.card, "weights": "as trained"}
    save_weights(folder / _WEIGHTS, trainer.network_tensors(), card)
    trainer.cfg.save(folder / _CONFIG)
    result = trainer.result
    report = {
        "epoch": trainer.epoch,
        "step": trainer.step,
        "rank": trainer.runtime.rank,
        "group_size": trainer.runtime.group_size,
        "losses": {name: _number(loss) for name, loss in zip(trainer.loss_names, losses, strict=True)},
        "gradient_norm": _number(result.gradient_norm),
        "learning_rate": result.rate,
        "loss_scale": result.loss_scale,
        "skipped_in_a_row": trainer.skipped_in_a_row,
        "inputs": list(content),
        "images": list(_describe_images(trainer, batch, content)),
    }
    write_json(folder / _REPORT, report)
    return folder


def _describe_images(
    trainer: Trainer, batch: ImageBatch, content: Mapping[str, np.ndarray]
) -> Iterator[dict[str, Any]]:
    """Id, file, and boxes (xyxy px of the input) with their classes, or the class."""
    names = trainer.card.get("class_names", [])
    for place, (image_id, index) in enumerate(zip(batch.image_ids, batch.indices.tolist(), strict=True)):
        labels = np.atleast_1d(content["labels"][place])
        described: dict[str, Any] = {"id": image_id, "file": str(trainer.loader.dataset.samples[index].image_path)}
        described["classes"] = [names[label] if label < len(names) else label for label in labels[labels >= 0].tolist()]
        if "boxes" in content:
            described["boxes"] = [[_number(v) for v in box] for box in content["boxes"][place][labels >= 0].tolist()]
        yield described


def _number(value: float) -> float | str:
    """JSON has no NaN and no infinity."""
    return float(value) if math.isfinite(value) else str(float(value))


@dataclass(frozen=True)
class FailedStep:
    """What `save_failed_step` has written.

    Attributes:
        folder: where.
        cfg: configuration of the run.
        report: losses, image ids, boxes.
        arrays: name -> array of the batch, in the order that the step takes them.
    """

    folder: Path
    cfg: Config
    report: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]


def load_failed_step(folder: Path) -> FailedStep:
    """Reads what `save_failed_step` has written.

    Raises:
        UserError: a file is missing or damaged.
    """
    if not (folder / _REPORT).is_file():
        ranks = ", ".join(path.name for path in sorted(folder.glob("rank_*")))
        hint = f" It holds {ranks}: name one of them." if ranks else ""
        raise UserError(f"{folder} is no folder of a failed step: it has no {_REPORT}.{hint}")
    report = read_json(folder / _REPORT)
    try:
        with np.load(folder / _BATCH, allow_pickle=False) as file:
            arrays = {str(name): file[str(name)] for name in report["inputs"]}
        images = [str(image["id"]) for image in report["images"]]
        if len(images) != len(arrays["images"]) or not isinstance(report["losses"], dict):
            raise ValueError("report and batch are of different steps")
    except (OSError, ValueError, KeyError, TypeError, EOFError, NotImplementedError, zipfile.BadZipFile) as error:
        raise UserError(f"{folder}: {_BATCH} or {_REPORT} is damaged: {error}") from error
    return FailedStep(folder, load_config(folder / _CONFIG), report, arrays)


class Replay:
    """The training step of a failed one, with its weights.

    Args:
        failed: what was kept.
        step: built from `failed.cfg`; it gets the weights and the loss scale.
        loss_names: of its criterion.
    """

    def __init__(self, failed: FailedStep, step: TrainStep, loss_names: Sequence[str]) -> None:
        self.failed = failed
        self.step = step
        self.loss_names = tuple(loss_names)
        weights, _ = load_weights(failed.folder / _WEIGHTS)
        self.broken_weights = [name for name, value in weights.items() if not np.isfinite(value).all()]
        self._weights = weights

    def run(self, arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, float], float]:
        """Each loss by name, and the norm of the gradient, of one batch; no run influences the next."""
        fill_network(self.step.loss_cell.network, self._weights, self.failed.folder / _WEIGHTS)
        self.step.take_statistics()
        self.step.skips.set_data(Tensor(0.0, ms.float32))
        self.step.scale.set_data(Tensor(self.failed.report["loss_scale"], ms.float32))
        # A rate of 0: the step computes all that it did, and leaves the weights alone.
        numbers = self.step.run(list(arrays.values()), rate=0.0)
        return dict(zip(self.loss_names, numbers.own_losses, strict=True)), numbers.gradient_norm

    def lines(self) -> Iterator[str]:
        """The report, line by line: the batch as it was, then each image alone (in place of all others)."""
        report = self.failed.report
        yield f"step {report['step']} of epoch {report['epoch']}, {len(report['images'])} images"
        if self.broken_weights:
            shown = ", ".join(self.broken_weights[:3])
            yield f"{len(self.broken_weights)} tensors of the weights are not finite already: {shown}"
        losses, norm = self.run(self.failed.arrays)
        for name, loss in losses.items():
            yield f"{name}: {loss:g} (it was {report['losses'].get(name, 'not there')})"
        yield f"norm of the gradient: {norm:g} (it was {report['gradient_norm']})"
        if len(report["images"]) == 1:
            return
        for place, image in enumerate(report["images"]):
            alone = {
                name: array if name == "size" else np.repeat(array[place : place + 1], len(array), 0)
                for name, array in self.failed.arrays.items()
            }
            losses, norm = self.run(alone)
            terms = ", ".join(f"{name} {loss:g}" for name, loss in losses.items())
            mark = "" if all(map(math.isfinite, (*losses.values(), norm))) else "   <- not finite"
            yield f"image {json.dumps(image['id'])} alone: {terms}, gradient {norm:g}{mark}"
