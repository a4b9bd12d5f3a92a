"""What quantization-aware training does besides training: where it starts from, first ranges, and what begins later."""

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
from msdet.training.loop import Hook
from msdet.training.start_weights import freeze_batch_norm
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
    """Refuses a quantization-aware training from random weights.

    Raises:
        UsageError: `pretrained` is empty.
    """
    if cfg.quantization_aware and not cfg.pretrained:
        raise UsageError(
            f"{cfg.where('quantization_aware')} is True, and pretrained is empty: this training starts from a float "
            "network.\nGive its checkpoint with --pretrained (--resume_yolov3), or train it first with the float "
            "configuration."
        )


def has_ranges(weights: Mapping[str, np.ndarray]) -> bool:
    """Whether weights are those of a quantized network."""
    return any(name.endswith(_RANGES) for name in weights)


def with_ranges(network: nn.Cell, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Float weights and the ranges that a quantized network was built with, so that they fit it."""
    own = {name: value for name, value in tensors_of(network).items() if name.endswith(_RANGES)}
    return {**own, **weights}


class _Forward(nn.Cell):
    """A batch through preprocess and network; what comes out does not matter."""

    def __init__(self, preprocess: nn.Cell, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.preprocess = preprocess
        self.network = network

    def construct(self, images: Tensor, valid_sizes: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.network(self.preprocess(images, valid_sizes))


def calibrate(
    cfg: Config, recipe: Recipe, network: nn.Cell, dataset: DetectionDataset | ImageFolder, runtime: Runtime
) -> None:
    """Sets the ranges of a quantized network to the mean extremes of the float network's activations, of every image
    in `calibration_batches` training batches without augmentation."""
    assert isinstance(cfg, QuantKeys), "other models are not trained for int8"
    forward = _Forward(recipe.build_preprocess(), network)
    count = 0
    with training_loader(cfg, dataset, recipe.eval_pipeline(), runtime) as loader, calibrating(network) as divide:
        loader.start()
        for batch in islice(loader.epoch(0), cfg.calibration_batches):
            outputs = forward(*[Tensor(np.array(array)) for array in (batch.images, batch.valid_sizes)])
            # The next batch may overwrite what this one is computed from.
            (outputs[0] if isinstance(outputs, tuple) else outputs).asnumpy()
            count += 1
        divide(count)
    log.info("calibrated the ranges of the activations on %d batches of %d images", count, cfg.per_batch_size)


class QuantSchedule(Hook):
    """Begins to round, and freezes batch norm, at the steps that the configuration names.

    A compiled step cannot change, so that each change compiles another one.
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
            "step %d: weights are %srounded, activations are %srounded, batch norm is %s; compiling anew",
            trainer.next_step, "" if weights else "not ", "" if activations else "not ",
            "frozen" if frozen else "training",
        )  # fmt: skip
        _apply(trainer.train_step.loss_cell.network, *wanted)
        trainer.train_step = rebuilt(trainer.train_step)

    def _wanted(self, trainer: Trainer) -> tuple[bool, bool, bool]:
        cfg, step = trainer.cfg, trainer.next_step
        assert isinstance(cfg, QuantKeys), "other models are not trained for int8"
        return step >= cfg.quant_delay[0], step >= cfg.quant_delay[1], step >= cfg.freeze_bn_step


def _apply(network: nn.Cell, weights: bool, activations: bool, frozen: bool) -> None:
    enable_fake_quant(network, weights, activations)
    if frozen:
        freeze_batch_norm(network)


def rebuilt(step: TrainStep) -> TrainStep:
    """The same training step, to be compiled anew; it goes on with the same velocity and averages."""
    step.pour_statistics()
    other = TrainStep(step.loss_cell, step.options, step.mean_over_ranks)
    other.load_state(step.state())
    other.load_averages(step.averages())
    other.set_train()
    inputs = step.get_inputs()
    if inputs:
        other.set_inputs(*inputs)
    return other
