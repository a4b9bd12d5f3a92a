"""A checkpoint's network, ready to be written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mindspore import Tensor, nn

from msdet.checkpoints.card import apply_card
from msdet.checkpoints.weights_file import fill_network, load_weights, tensors_of
from msdet.errors import UsageError
from msdet.export.sample_images import sample_images
from msdet.export.spec import DecoderCell, ExportSpec, to_arrays
from msdet.models.recipe import get_recipe

if TYPE_CHECKING:
    from msdet.config import Config
    from msdet.models.recipe import DetectionRecipe

# Images of a comparison where the file takes any number: more than one, and an odd one.
_ANY_BATCH = 3


@dataclass(frozen=True)
class Prepared:
    """A network with its weights, and what is to be written of it.

    Attributes:
        cfg: resolved configuration, after the checkpoint's card.
        recipe: of the model.
        network: filled, in inference mode.
        card: of the checkpoint, or made from the configuration where it has none.
        source: the checkpoint.
    """

    cfg: Config
    recipe: DetectionRecipe
    network: nn.Cell
    card: Mapping[str, Any]
    source: Path

    def spec(self) -> ExportSpec:
        """What the configuration wants inside the file."""
        cfg = self.cfg
        valid = cfg.keep_preprocess and self.recipe.build_preprocess().uses_valid_sizes
        return ExportSpec(cfg.testing_size, cfg.export_batch_size, cfg.keep_preprocess, cfg.keep_detect, valid)

    def copy(self) -> nn.Cell:
        """The network once more, with the same weights, to be changed."""
        network = self.recipe.build_network()
        fill_network(network, tensors_of(self.network), self.source)
        return network.set_train(False)

    def inputs(self, spec: ExportSpec) -> list[np.ndarray]:
        """Sample images as the file takes them."""
        images, valid = sample_images(spec.batch_size or _ANY_BATCH, spec.size)
        normalised = self.recipe.build_preprocess()(Tensor(images), Tensor(valid)).asnumpy()
        return spec.inputs(images, valid, normalised)

    def finisher(self, spec: ExportSpec) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
        """Function to boxes and scores, or probabilities, from what comes out of the file, also without decoder."""
        if spec.detect:
            return lambda outputs: outputs
        finish = DecoderCell(self.recipe, spec.size)
        return lambda outputs: to_arrays(finish(*map(Tensor, outputs)))

    def output_names(self, spec: ExportSpec, count: int) -> list[str]:
        """Names of the `count` outputs of the file."""
        if self.recipe.task != "detect":
            return ["probabilities" if spec.detect else "logits"]
        return ["boxes", "scores"] if spec.detect else [f"raw_{i}" for i in range(count)]


def prepare(cfg: Config) -> Prepared:
    """Builds the network that the checkpoint `pretrained` and its card describe.

    Raises:
        UserError: the checkpoint is missing or does not fit.
    """
    if not cfg.pretrained:
        raise UsageError("ckpt_file is empty: give the checkpoint to export with --ckpt_file")
    source = Path(cfg.pretrained)
    weights, card = load_weights(source)
    cfg = apply_card(cfg, card, source, with_classes=True)
    if not cfg.num_classes and not cfg.class_names:
        raise UsageError(f"{source} has no card that tells its classes: give --num_classes or --class_names")
    if not cfg.num_classes:
        cfg = cfg.replace(num_classes=len(cfg.class_names))
    recipe = get_recipe(cfg)
    network = recipe.build_network()
    fill_network(network, weights, source, "Is this a checkpoint of another model, width or number of classes?")
    network.set_train(False)
    card = card or recipe.card(list(range(1, cfg.num_classes + 1)))
    return Prepared(cfg, recipe, network, card, source)
