"""Old keys whose values do not have the meaning of the keys that they set; those of equal meaning are in aliases.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# Texts of a key that is not set.
_UNSET = ("", "None", "null", "~")
_FALSE = ("false", "0", "no", "off")


def _object_classes(text: str) -> dict[str, str]:
    """RefineDet's `class_num` counts the background too; 0: not set."""
    if not text.isdecimal():
        raise ValueError("takes a whole number")
    if int(text) == 1:
        raise ValueError("counts the background too, so it is at least 2")
    return {"num_classes": str(int(text) - 1)} if int(text) else {}


def _square_size(text: str) -> dict[str, str]:
    """`height, width` in px."""
    sides = [side.strip(" '\"") for side in text.strip("[]() ").split(",")]
    sides = [side for side in sides if side]
    if not all(side.isdecimal() for side in sides):
        raise ValueError("takes height and width in px, such as 320,320")
    if len(set(sides)) > 1:
        raise ValueError("must be square, such as 320,320")
    return {"testing_shape": sides[0], "training_shape": sides[0]} if sides else {}


def _no_parameter_server(text: str) -> dict[str, str]:
    if text.lower() not in _FALSE:
        raise ValueError("must be False: MindSpore 2 has no parameter server; set is_distributed instead")
    return {}


def _size_d0(text: str) -> dict[str, str]:
    if text != "0":
        raise ValueError("must be 0: the network is EfficientDet-D0")
    return {}


_CLASSIFIER = {"image_size": _square_size, "parameter_server": _no_parameter_server}
_RULES: Mapping[str, Mapping[str, Callable[[str], dict[str, str]]]] = {
    "refinedet": {"class_num": _object_classes, "image_shape": _square_size},
    "efficientdet_d0": {"compound_coef": _size_d0},
    "darknet53": _CLASSIFIER,
    "cspdarknet53": _CLASSIFIER,
}


# Keys of earlier versions of this package -> their names now.
_RENAMED = {"pre_trained_epoch_size": "pretrained_epochs", "pretrained_epoch_num": "pretrained_epochs"}


def old_value_names(model: str) -> tuple[str, ...]:
    """The names that `rewrite_value` knows for a model."""
    return tuple(_RULES.get(model, ()))


def rewrite_value(model: str, name: str, raw: object) -> dict[str, str] | None:
    """The keys that an old key sets, with their values; None if the name is not one of `old_value_names`.

    Args:
        model: as in the model table.
        name: as written.
        raw: text, None or a list.

    Raises:
        ValueError: the value is not accepted; the message continues "NAME is VALUE; it ...".
    """
    if name not in _RULES.get(model, ()):
        return None
    text = str(raw).strip()
    return {} if text in _UNSET else _RULES[model][name](text)


def saved_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a configuration that an earlier version of this package saved, without the keys that are no longer
    keys, and with the new names of renamed ones."""
    removed = old_value_names(str(values.get("model", "")))
    return {_RENAMED.get(name, name): value for name, value in values.items() if name not in removed}
