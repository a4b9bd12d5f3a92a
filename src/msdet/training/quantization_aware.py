"""Quantization-aware training: its initial weights, the calibration of activation ranges, and its schedule."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from mindspore import Tensor, nn

from msdet.checkpoints.weights_file import tensors_of
from msdet.config.sections.quantization import QuantKeys
from msdet.errors import UsageError
from msdet.quantization.quantize import calibrating, enable_fake_quant
from msdet.session.datasets import training_loader
from msdet.training.initial_weights import freeze_batch_norm
from msdet.training.loop import Hook
from msdet.training.step import TrainStep

if TYPE_CHECKING:
    from msdet.config import Config
    from msdet.data.dataset import DetectionDataset
    from msdet.data.formats.imagefolder import ImageFolder
    from msdet.data.loading.batch import ImageBatch
    from msdet.models.recipe import Recipe
    from msdet.runtime.start import Runtime
    from msdet.training.loop import Trainer

log = logging.getLogger(__name__)

_RANGES = (".observer.low", ".observer.high")


def require_float_weights(cfg: Config) -> None:
    """Checks that quantization-aware training does not start from random weights.

    Raises:
        UsageError: `pretrained` is empty.
    """
    if cfg.quantization_aware and not cfg.pretrained:
        raise UsageError(
            f"{cfg.where('quantization_aware')} is True, but pretrained is empty: quantization-aware training starts "
            "from a float network.\nGive its checkpoint with --pretrained (--resume_yolov3), or train it first with "
            "the float configuration."
        )


def has_ranges(weights: Mapping[str, np.ndarray]) -> bool:
    """Whether the weights are those of a quantized network."""
    return any(name.endswith(_RANGES) for name in weights)


def add_ranges(network: nn.Cell, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Adds the initial ranges of a quantized network to float weights, so that they fit it."""
    own = {name: value for name, value in tensors_of(network).items() if name.endswith(_RANGES)}
    return {**own, **weights}


class _Forward(nn.Cell):
    """Preprocess and network, run for the observers inside it."""

    def __init__(self, preprocess: nn.Cell, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.preprocess = preprocess
        self.network = network

    def construct(self, images: Tensor, valid_sizes: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.network(self.preprocess(images, valid_sizes))


def calibrate(
    cfg: Config, recipe: Recipe, network: nn.Cell, dataset: DetectionDataset | ImageFolder, runtime: Runtime
) -> None:
    """Sets the ranges of a quantized network to the mean minimum and maximum of the float network's activations over
    `calibration_batches` training batches without augmentation."""
    assert isinstance(cfg, QuantKeys), "other models are not trained for int8"
    forward = _Forward(recipe.build_preprocess(), network)
    count = 0
    with training_loader(cfg, dataset, recipe.eval_pipeline(), runtime) as loader, calibrating(network) as divide:
        loader.start()
        for batch in islice(loader.epoch(0), cfg.calibration_batches):
            outputs = forward(*[Tensor(np.array(array)) for array in (batch.images, batch.valid_sizes)])
            # Wait: the loader may reuse the memory of this batch for the next one.
            (outputs[0] if isinstance(outputs, tuple) else outputs).asnumpy()
            count += 1
        divide(count)
    log.info("calibrated the activation ranges on %d batches of %d images", count, cfg.per_batch_size)


class QuantSchedule(Hook):
    """Starts fake quantization (`quant_delay`) and freezes batch norm (`freeze_bn_step`) at the configured steps.

    Each change compiles a new training step.
    """

    def __init__(self) -> None:
        self._state: tuple[bool, bool, bool] | None = None

    def before_train(self, trainer: Trainer) -> None:
        self._state = self._wanted(trainer)
        _apply(trainer.train_step.loss_cell.network, *self._state)

    def before_step(self, trainer: Trainer, batch: ImageBatch) -> None:
        del batch
        wanted = self._wanted(trainer)
        if wanted == self._state:
            return
        self._state = wanted
        weights, activations, frozen = wanted
        log.info(
            "step %d: fake quantization of weights %s, of activations %s; batch norm %s; recompiling",
            trainer.next_step, "on" if weights else "off", "on" if activations else "off",
            "frozen" if frozen else "training",
        )  # fmt: skip
        _apply(trainer.train_step.loss_cell.network, *wanted)
        trainer.train_step = rebuild_step(trainer.train_step)

    def _wanted(self, trainer: Trainer) -> tuple[bool, bool, bool]:
        cfg, step = trainer.cfg, trainer.next_step
        assert isinstance(cfg, QuantKeys), "other models are not trained for int8"
        return step >= cfg.quant_delay[0], step >= cfg.quant_delay[1], step >= cfg.freeze_bn_step


def _apply(network: nn.Cell, weights: bool, activations: bool, frozen: bool) -> None:
    enable_fake_quant(network, weights, activations)
    if frozen:
        freeze_batch_norm(network)


def rebuild_step(step: TrainStep) -> TrainStep:
    """A copy of the training step that is compiled again and continues with the same velocity and moving averages."""
    step.store_statistics()
    other = TrainStep(step.loss_cell, step.options, step.all_reduce_mean)
    other.load_state(step.state())
    other.load_averages(step.averages())
    other.set_train()
    inputs = step.get_inputs()
    if inputs:
        other.set_inputs(*inputs)
    return other
