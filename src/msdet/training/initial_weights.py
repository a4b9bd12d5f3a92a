"""Initial weights of a training: `pretrained`, `filter_weight` and `pretrained_backbone`."""

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


def load_initial_weights(
    network: nn.Cell, recipe: DetectionRecipe, weights: Mapping[str, np.ndarray], card: Mapping[str, Any]
) -> None:
    """Fills a new network according to `pretrained`, `filter_weight` and `pretrained_backbone`; without them it keeps
    its random initialization.

    Args:
        network: built by the recipe.
        recipe: its configuration names the files.
        weights, card: content of `pretrained`; empty if it is not set.

    Raises:
        UserError: the weights do not fit, or are for other classes.
        UsageError: both `pretrained` and `pretrained_backbone` are given.
    """
    cfg = recipe.cfg
    if weights and cfg.pretrained_backbone:
        raise UsageError("give either pretrained or pretrained_backbone: pretrained already contains a backbone")
    if weights:
        _fill(network, recipe, weights, card, Path(cfg.pretrained))
    if cfg.pretrained_backbone:
        load_backbone(network, Path(cfg.pretrained_backbone))


def freeze_batch_norm(network: nn.Cell) -> None:
    """Freezes the moving statistics of every batch norm: training uses them and does not update them."""
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
        skipped = [name for name in weights if recipe.is_class_layer(name)]
        log.info("filter_weight: %d tensors keep their initialization: %s", len(skipped), ", ".join(skipped))
        kept = {name: value for name, value in weights.items() if name not in skipped}
        weights = {**{name: value for name, value in own.items() if recipe.is_class_layer(name)}, **kept}
    else:
        check_classes(recipe.cfg, card, source)
    fill_network(
        network,
        weights,
        source,
        "Is this a checkpoint of another model or width? For a different set of classes use --filter_weight=True.",
    )


def load_backbone(network: nn.Cell, source: Path) -> None:
    """Fills `network.backbone` from a checkpoint of the backbone alone, of a classifier, or of a detector.

    Raises:
        UserError: a tensor of the backbone is missing or has another shape, or the file has an unknown tensor.
    """
    weights, _ = load_weights(source)
    inside = {name[len(_BACKBONE) :]: value for name, value in weights.items() if name.startswith(_BACKBONE)}
    if inside:
        skipped = [name for name in weights if not name.startswith(_BACKBONE)]
        log.info("pretrained_backbone: %d tensors of other layers are skipped: %s", len(skipped), first_few(skipped))
    own = {name[len(_BACKBONE) :] for name in tensors_of(network) if name.startswith(_BACKBONE)}
    tensors = inside or dict(weights)
    if not own & tensors.keys():
        raise UserError(f"{source} holds no backbone of this network: none of its {len(weights)} tensor names match")
    fill_network(network.backbone, {_BACKBONE + name: value for name, value in tensors.items()}, source)
