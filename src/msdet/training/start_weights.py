"""The weights that a training starts from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import nn

from msdet.checkpoints.card import check_classes
from msdet.checkpoints.weights_file import fill_network, load_weights, tensors_of
from msdet.errors import UsageError, UserError
from msdet.models.recipe import DetectionRecipe
from msdet.text import first_few

log = logging.getLogger(__name__)

_BACKBONE = "backbone."


def start_from(
    network: nn.Cell, recipe: DetectionRecipe, weights: Mapping[str, np.ndarray], card: Mapping[str, Any]
) -> None:
    """Fills a new network as `pretrained`, `filter_weight` and `pretrained_backbone` say; else it stays as drawn.

    Args:
        network: of the recipe.
        recipe: its configuration names the files.
        weights, card: content of `pretrained`; empty if that is.

    Raises:
        UserError: the weights do not fit, or are for other classes.
        UsageError: both kinds of weights are given.
    """
    cfg = recipe.cfg
    if weights and cfg.pretrained_backbone:
        raise UsageError("give either pretrained or pretrained_backbone: the first holds a backbone already")
    if weights:
        _fill(network, recipe, weights, card, Path(cfg.pretrained))
    if cfg.pretrained_backbone:
        fill_backbone(network, Path(cfg.pretrained_backbone))


def freeze_batch_norm(network: nn.Cell) -> None:
    """Lets every batch norm use its running statistics in training too, and leave them as they are."""
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.BatchNorm2d):
            cell.use_batch_statistics = False


def _fill(
    network: nn.Cell,
    recipe: DetectionRecipe,
    weights: Mapping[str, np.ndarray],
    card: Mapping[str, Any],
    source: Path,
) -> None:
    if recipe.cfg.filter_weight:
        own = tensors_of(network)
        left_out = [name for name in weights if recipe.is_class_layer(name)]
        log.info("filter_weight: %d tensors stay as drawn: %s", len(left_out), ", ".join(left_out))
        kept = {name: value for name, value in weights.items() if name not in left_out}
        weights = {**{name: value for name, value in own.items() if recipe.is_class_layer(name)}, **kept}
    else:
        check_classes(recipe.cfg, card, source)
    fill_network(
        network,
        weights,
        source,
        "Is this a checkpoint of another model or width? For other classes set --filter_weight=True.",
    )


def fill_backbone(network: nn.Cell, source: Path) -> None:
    """Fills `network.backbone` from a checkpoint of the backbone alone, of a classifier, or of a detector that has it.

    Raises:
        UserError: a tensor of the backbone is missing, has another shape, or one of the file belongs nowhere.
    """
    weights, _ = load_weights(source)
    inside = {name[len(_BACKBONE) :]: value for name, value in weights.items() if name.startswith(_BACKBONE)}
    if inside:
        left_out = [name for name in weights if not name.startswith(_BACKBONE)]
        log.info("pretrained_backbone: %d tensors of other layers are left out: %s", len(left_out), first_few(left_out))
    own = {name[len(_BACKBONE) :] for name in tensors_of(network) if name.startswith(_BACKBONE)}
    tensors = inside or dict(weights)
    if not own & tensors.keys():
        raise UserError(f"{source} holds no backbone of this network: none of its {len(weights)} names is known")
    fill_network(network.backbone, {_BACKBONE + name: value for name, value in tensors.items()}, source)
