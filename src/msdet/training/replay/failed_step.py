"""A training step with a non-finite loss or gradient: saved with everything it depends on, and replayed."""

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
    """Writes `debug/step_S/` in the run folder: report, batch, weights and configuration.

    Args:
        trainer: holds the weights that the step used, since a non-finite step changes none, and its result.
        batch: of this rank.
        losses: each loss on this rank.

    Returns:
        the folder; with several ranks, each has a subfolder of its own.

    Raises:
        UserError: a file cannot be written.
    """
    folder = trainer.folder / "debug" / f"step_{trainer.step}"
    if trainer.runtime.group_size > 1:
        folder /= f"rank_{trainer.runtime.rank}"
    arrays = {name: np.array(array) for name, array in batch.arrays().items()}
    with atomic_path(folder / _BATCH) as temporary:
        np.savez_compressed(temporary, **arrays)
    card = {**trainer.card, "weights": "as trained"}
    save_weights(folder / _WEIGHTS, trainer.network_tensors(), card)
    trainer.cfg.save(folder / _CONFIG)
    result = trainer.result
    report = {
        "epoch": trainer.epoch,
        "step": trainer.step,
        "rank": trainer.runtime.rank,
        "group_size": trainer.runtime.group_size,
        "losses": {name: _json_float(loss) for name, loss in zip(trainer.loss_names, losses, strict=True)},
        "gradient_norm": _json_float(result.gradient_norm),
        "learning_rate": result.rate,
        "loss_scale": result.loss_scale,
        "skipped_in_a_row": trainer.skipped_in_a_row,
        "inputs": list(arrays),
        "images": list(_describe_images(trainer, batch, arrays)),
    }
    write_json(folder / _REPORT, report)
    return folder


def _describe_images(trainer: Trainer, batch: ImageBatch, arrays: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """Yields id, file and classes of each image, and for a detector its boxes (xyxy px of the network input)."""
    names = trainer.card.get("class_names", [])
    for place, (image_id, index) in enumerate(zip(batch.image_ids, batch.indices.tolist(), strict=True)):
        labels = np.atleast_1d(arrays["labels"][place])
        image: dict[str, Any] = {"id": image_id, "file": str(trainer.loader.dataset.samples[index].image_path)}
        image["classes"] = [names[label] if label < len(names) else label for label in labels[labels >= 0].tolist()]
        if "boxes" in arrays:
            image["boxes"] = [[_json_float(v) for v in box] for box in arrays["boxes"][place][labels >= 0].tolist()]
        yield image


def _json_float(value: float) -> float | str:
    """The value, or its name as text if it is NaN or infinite, which JSON cannot represent."""
    return float(value) if math.isfinite(value) else str(float(value))


@dataclass(frozen=True)
class FailedStep:
    """The content of a folder written by `save_failed_step`.

    Attributes:
        folder: the folder.
        cfg: configuration of the run.
        report: losses, image ids, boxes.
        arrays: name -> array of the batch, in the order of the step's inputs.
    """

    folder: Path
    cfg: Config
    report: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]


def load_failed_step(folder: Path) -> FailedStep:
    """Reads a folder written by `save_failed_step`.

    Raises:
        UserError: a file is missing or damaged.
    """
    if not (folder / _REPORT).is_file():
        ranks = ", ".join(path.name for path in sorted(folder.glob("rank_*")))
        hint = f" It contains {ranks}: give one of them." if ranks else ""
        raise UserError(f"{folder} is not the folder of a failed step: it has no {_REPORT}.{hint}")
    report = read_json(folder / _REPORT)
    try:
        with np.load(folder / _BATCH, allow_pickle=False) as file:
            arrays = {str(name): file[str(name)] for name in report["inputs"]}
        images = [str(image["id"]) for image in report["images"]]
        if len(images) != len(arrays["images"]) or not isinstance(report["losses"], dict):
            raise ValueError("report and batch belong to different steps")
    except (OSError, ValueError, KeyError, TypeError, EOFError, NotImplementedError, zipfile.BadZipFile) as error:
        raise UserError(f"{folder}: {_BATCH} or {_REPORT} is damaged: {error}") from error
    return FailedStep(folder, load_config(folder / _CONFIG), report, arrays)


class Replay:
    """Repeats a failed training step with its weights.

    Args:
        failed: the saved step.
        step: built from `failed.cfg`; receives the saved weights and loss scale.
        loss_names: names of the criterion's losses.
    """

    def __init__(self, failed: FailedStep, step: TrainStep, loss_names: Sequence[str]) -> None:
        self.failed = failed
        self.step = step
        self.loss_names = tuple(loss_names)
        weights, _ = load_weights(failed.folder / _WEIGHTS)
        self.non_finite_weights = [name for name, value in weights.items() if not np.isfinite(value).all()]
        self._weights = weights

    def run(self, arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, float], float]:
        """Runs one batch from the saved state; returns its losses by name and the norm of its gradient."""
        fill_network(self.step.loss_cell.network, self._weights, self.failed.folder / _WEIGHTS)
        self.step.load_statistics()
        self.step.skips.set_data(Tensor(0.0, ms.float32))
        self.step.scale.set_data(Tensor(self.failed.report["loss_scale"], ms.float32))
        # With a rate of 0 the step computes everything but does not change the weights.
        result = self.step.run(list(arrays.values()), rate=0.0)
        return dict(zip(self.loss_names, result.own_losses, strict=True)), result.gradient_norm

    def lines(self) -> Iterator[str]:
        """Yields the lines of the report: the whole batch, then each image alone (a batch of copies of it)."""
        report = self.failed.report
        yield f"step {report['step']} of epoch {report['epoch']}, {len(report['images'])} images"
        if self.non_finite_weights:
            shown = ", ".join(self.non_finite_weights[:3])
            yield f"{len(self.non_finite_weights)} weight tensors were already not finite: {shown}"
        losses, norm = self.run(self.failed.arrays)
        for name, loss in losses.items():
            yield f"{name}: {loss:g} (was {report['losses'].get(name, 'missing')})"
        yield f"gradient norm: {norm:g} (was {report['gradient_norm']})"
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
