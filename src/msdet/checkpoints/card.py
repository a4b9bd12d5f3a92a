"""The card beside a checkpoint, held against a configuration."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from msdet.checkpoints.weights_file import read_card
from msdet.errors import UsageError, UserError
from msdet.text import first_few

if TYPE_CHECKING:
    from msdet.config import Config

log = logging.getLogger(__name__)
ConfigT = TypeVar("ConfigT", bound="Config")

_CLASSES = ("class_names", "num_classes")

# What a backbone's weights were trained with, in a classifier or in another detector.
_BACKBONE_KEYS = ("backbone_shape", "backbone_layers", "activation", "padding", "bn_eps", "mean", "std")


def apply_card(cfg: ConfigT, card: Mapping[str, Any], source: Path, with_classes: bool) -> ConfigT:
    """Takes from the card what belongs to the weights: preprocessing, the shape of the network and its classes.

    A key that the configuration leaves at its default follows the card; one that was set and differs is an error.

    Args:
        cfg: the configuration.
        card: as `load_weights` gives it; empty leaves the configuration as it is.
        source: the checkpoint, for messages.
        with_classes: take the classes too (evaluation); a training has those of its data. `label_map: dense`, if set,
            stays: it matches the classes of weights and data by their names.

    Raises:
        UsageError: the configuration sets a key otherwise than the card.
        UserError: the weights are another model's.
    """
    if not card:
        return cfg
    if card.get("model") != cfg.model:
        raise UserError(
            f"{source} holds weights of the model {card.get('model')!r}, the configuration is for {cfg.model!r}. "
            "Take that model's configuration, or other weights."
        )
    entries = [*_section(card, "preprocess", source), *_section(card, "network", source)]
    entries += _section(card, "quantization", source)
    if with_classes:
        if cfg.quantization_aware and "quantization" not in card:
            raise UsageError(
                f"{cfg.where('quantization_aware')} is True, but {source} holds a float network. Take its float "
                "configuration for it, or a checkpoint of a quantization-aware training."
            )
        names = names_of_outputs(card) if "label_map" in cfg.places and cfg.label_map == "dense" else []
        if names:
            entries += [("class_names", names), ("num_classes", len(names))]
        else:
            entries += [(name, card[name]) for name in (*_CLASSES, "label_map") if name in card]
    return _follow(cfg, dict(entries), source)


def names_of_outputs(card: Mapping[str, Any]) -> list[str]:
    """The class of each output of the weights by its name, for data that number theirs in another way; of an output
    that no class has, a name that none has. Empty where the card does not tell."""
    names, ids, count = card.get("class_names"), card.get("category_ids"), card.get("num_classes")
    if not names or card.get("label_map") != "coco_id_minus_1" or not isinstance(count, int):
        return list(names or [])
    ids = ids if isinstance(ids, list) and len(ids) == len(names) else range(1, len(names) + 1)
    name_of = dict(zip(ids, names, strict=True))
    if not all(type(number) is int and 1 <= number <= count for number in name_of):
        return []
    return [name_of.get(number, f"({number} is unused)") for number in range(1, count + 1)]


def apply_backbone_card(cfg: ConfigT, source: Path) -> ConfigT:
    """Takes from the card of `pretrained_backbone` what a backbone's weights depend on, by the rule of `apply_card`.

    Args:
        cfg: of the detector.
        source: the checkpoint; without a card the configuration stays as it is.

    Raises:
        UsageError: the configuration sets a key otherwise than the card.
        UserError: the card is damaged, or of a backbone that this network has not.
    """
    card = read_card(source) if source.is_file() else {}
    entries = [*_section(card, "preprocess", source), *_section(card, "network", source)]
    followed = _follow(cfg, {name: value for name, value in entries if name in _BACKBONE_KEYS}, source)
    changes = {name: value for name, value in followed.to_dict().items() if value != cfg.to_dict()[name]}
    if changes:
        log.info("pretrained_backbone: as its card says, %s", ", ".join(f"{k} is {v}" for k, v in changes.items()))
    return followed


def _follow(cfg: ConfigT, entries: Mapping[str, Any], source: Path) -> ConfigT:
    values = cfg.to_dict()
    told = {name: value for name, value in entries.items() if name in values}
    for name, value in told.items():
        # Classes that a file lists are those of its recipe; the weights may be for others. A flag is meant for them.
        is_open = name in _CLASSES and not (values[name] and cfg.places.get(name, "").startswith("--"))
        if name in cfg.places and values[name] != value and not is_open:
            raise UsageError(
                f"{cfg.where(name)} is {values[name]}, but the weights in {source} were made with {value} "
                f"(its card {source.with_suffix('.json').name} says so). Leave the key out to follow the card."
            )
    try:
        return cfg.replace(**told)
    except UsageError as error:
        raise UserError(
            f"{source} is of another network: by its card {source.with_suffix('.json').name} {error}"
        ) from error


def _section(card: Mapping[str, Any], name: str, source: Path) -> Iterable[tuple[str, Any]]:
    section = card.get(name, {})
    if not isinstance(section, dict):
        raise UserError(f"{source.with_suffix('.json')}: {name!r} is no object")
    return section.items()


def check_classes(cfg: Config, card: Mapping[str, Any], source: Path) -> None:
    """Weights that a training starts from must be for the classes of its data, in the same order.

    Raises:
        UserError: they are not; the message names the remedy.
    """
    names = card.get("class_names")
    if names is not None and tuple(names) != tuple(cfg.class_names):
        raise UserError(
            f"{source} was trained on {len(names)} classes ({first_few(names)}), the data has {len(cfg.class_names)} "
            f"({first_few(cfg.class_names)}).\n"
            "Set --filter_weight=True to keep all layers but those that depend on the classes."
        )
