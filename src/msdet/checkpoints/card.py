"""Applies the card of a checkpoint to a configuration and checks one against the other."""

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

# What the weights of a backbone depend on, whether they come from a classifier or from another detector.
_BACKBONE_KEYS = ("backbone_shape", "backbone_layers", "activation", "padding", "bn_eps", "mean", "std")


def apply_card(cfg: ConfigT, card: Mapping[str, Any], source: Path, with_classes: bool) -> ConfigT:
    """Takes from the card what belongs to the weights: preprocessing, architecture and classes.

    A key that is not set takes the value of the card; a key that is set to another value is an error.

    Args:
        cfg: the configuration.
        card: from `load_weights`; if empty, the configuration is returned unchanged.
        source: the checkpoint, for messages.
        with_classes: take the classes too (evaluation); training uses those of its data. `label_map: dense`, if set,
            is kept: it matches the classes of weights and data by name.

    Raises:
        UsageError: a key is set to another value than that of the card.
        UserError: the weights belong to another model.
    """
    if not card:
        return cfg
    if card.get("model") != cfg.model:
        raise UserError(
            f"{source} holds weights of the model {card.get('model')!r}, the configuration is for {cfg.model!r}. "
            "Use the configuration of that model, or other weights."
        )
    entries = [*_section(card, "preprocess", source), *_section(card, "network", source)]
    entries += _section(card, "quantization", source)
    if with_classes:
        if cfg.quantization_aware and "quantization" not in card:
            raise UsageError(
                f"{cfg.where('quantization_aware')} is True, but {source} holds a float network. Use its float "
                "configuration, or a checkpoint of a quantization-aware training."
            )
        names = output_class_names(card) if "label_map" in cfg.places and cfg.label_map == "dense" else []
        if names:
            entries += [("class_names", names), ("num_classes", len(names))]
        else:
            entries += [(name, card[name]) for name in (*_CLASSES, "label_map") if name in card]
    return _apply_entries(cfg, dict(entries), source)


def output_class_names(card: Mapping[str, Any]) -> list[str]:
    """The class name of each output of the network, to match classes by name where data number them differently.

    Outputs without a class get a placeholder such as "(12 is unused)". Empty if the card does not define the names.
    """
    names, ids, count = card.get("class_names"), card.get("category_ids"), card.get("num_classes")
    if not names or card.get("label_map") != "coco_id_minus_1" or not isinstance(count, int):
        return list(names or [])
    ids = ids if isinstance(ids, list) and len(ids) == len(names) else range(1, len(names) + 1)
    name_of = dict(zip(ids, names, strict=True))
    if not all(type(number) is int and 1 <= number <= count for number in name_of):
        return []
    return [name_of.get(number, f"({number} is unused)") for number in range(1, count + 1)]


def apply_backbone_card(cfg: ConfigT, source: Path) -> ConfigT:
    """Takes from the card of `pretrained_backbone` what the weights of a backbone depend on, as `apply_card` does.

    Args:
        cfg: configuration of the detector.
        source: the checkpoint; without a card the configuration is returned unchanged.

    Raises:
        UsageError: a key is set to another value than that of the card.
        UserError: the card is damaged, or describes another backbone.
    """
    card = read_card(source) if source.is_file() else {}
    entries = [*_section(card, "preprocess", source), *_section(card, "network", source)]
    updated = _apply_entries(cfg, {name: value for name, value in entries if name in _BACKBONE_KEYS}, source)
    changes = {name: value for name, value in updated.to_dict().items() if value != cfg.to_dict()[name]}
    if changes:
        log.info("pretrained_backbone: taken from its card: %s", ", ".join(f"{k} is {v}" for k, v in changes.items()))
    return updated


def _apply_entries(cfg: ConfigT, entries: Mapping[str, Any], source: Path) -> ConfigT:
    values = cfg.to_dict()
    known = {name: value for name, value in entries.items() if name in values}
    for name, value in known.items():
        # Classes listed in a config file are those of the recipe, and the weights may have others. Flags must match.
        may_differ = name in _CLASSES and not (values[name] and cfg.places.get(name, "").startswith("--"))
        if name in cfg.places and values[name] != value and not may_differ:
            raise UsageError(
                f"{cfg.where(name)} is {values[name]}, but the weights in {source} were trained with {value} "
                f"(see its card {source.with_suffix('.json').name}). Remove the key to use the value of the card."
            )
    try:
        return cfg.replace(**known)
    except UsageError as error:
        raise UserError(
            f"{source} belongs to another network: according to its card {source.with_suffix('.json').name}, {error}"
        ) from error


def _section(card: Mapping[str, Any], name: str, source: Path) -> Iterable[tuple[str, Any]]:
    section = card.get(name, {})
    if not isinstance(section, dict):
        raise UserError(f"{source.with_suffix('.json')}: {name!r} is not an object")
    return section.items()


def check_classes(cfg: Config, card: Mapping[str, Any], source: Path) -> None:
    """Checks that pretrained weights have the classes of the training data, in the same order.

    Raises:
        UserError: they do not.
    """
    names = card.get("class_names")
    if names is not None and tuple(names) != tuple(cfg.class_names):
        raise UserError(
            f"{source} was trained on {len(names)} classes ({first_few(names)}), the data has {len(cfg.class_names)} "
            f"({first_few(cfg.class_names)}).\n"
            "Set --filter_weight=True to load all layers except those that depend on the classes."
        )
