"""The network that a checkpoint and its card describe, filled with the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mindspore import nn

from msdet.checkpoints.card import apply_card
from msdet.checkpoints.weights_file import fill_network, load_weights, tensors_of
from msdet.errors import UsageError
from msdet.models.recipe import get_recipe

if TYPE_CHECKING:
    from msdet.config import Config
    from msdet.models.recipe import DetectionRecipe


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with the weights of a checkpoint, in inference mode.

    Attributes:
        cfg: the configuration after the checkpoint's card.
        recipe: recipe of the model.
        network: the network.
        card: the checkpoint's card; if it has none, one made from the configuration.
        source: the checkpoint file.
    """

    cfg: Config
    recipe: DetectionRecipe
    network: nn.Cell
    card: Mapping[str, Any]
    source: Path

    @classmethod
    def load(cls, cfg: Config, source: Path) -> Self:
        """Loads a checkpoint.

        Raises:
            UserError: the file is missing or damaged, or of another network.
            UsageError: neither the card nor the configuration has the classes.
        """
        weights, card = load_weights(source)
        cfg = apply_card(cfg, card, source, with_classes=True)
        if not cfg.num_classes and not cfg.class_names:
            raise UsageError(f"{source} has no card with its classes: give --num_classes or --class_names")
        if not cfg.num_classes:
            cfg = cfg.replace(num_classes=len(cfg.class_names))
        recipe = get_recipe(cfg)
        network = recipe.build_network()
        fill_network(network, weights, source, "Is this a checkpoint of another model, width or number of classes?")
        card = card or recipe.card(list(range(1, cfg.num_classes + 1)))
        return cls(cfg, recipe, network.set_train(False), card, source)

    def copy_network(self) -> nn.Cell:
        """A second network with the same weights, in inference mode."""
        network = self.recipe.build_network()
        fill_network(network, tensors_of(self.network), self.source)
        return network.set_train(False)
