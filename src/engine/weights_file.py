"""A weights file and its card: what a network needs to be rebuilt, checked when it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from src.common.files import atomic_path, read_json, sha256_of, write_json
from src.errors import UserError

_SHOWN = 5


def card_path(weights: Path) -> Path:
    """The card stands beside the weights, with the suffix `.json`."""
    return weights.with_suffix(".json")


def save_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a plain MindSpore checkpoint (with its own checksum); the file is whole or absent."""
    with atomic_path(path) as beside:
        ms.save_checkpoint(
            [{"name": name, "data": ms.Tensor(value)} for name, value in tensors.items()], str(beside), crc_check=True
        )


def load_tensors(path: Path) -> dict[str, np.ndarray]:
    """Reads a MindSpore checkpoint.

    Raises:
        UserError: the file is missing, is no checkpoint, or its content does not match its checksum.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    try:
        return {name: value.asnumpy() for name, value in _read_checkpoint(path).items()}
    except (ValueError, RuntimeError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{path} is no whole MindSpore checkpoint: {reason}\n"
            "Copy it again, or take an older one. Files of other programs are read by `python -m src.weights`."
        ) from error


def _read_checkpoint(path: Path) -> dict[str, ms.Parameter]:
    try:
        return ms.load_checkpoint(str(path), crc_check=True)
    except ValueError as error:
        # Files written without a checksum are common (the old zoo's): they can only be read unchecked.
        if "crc" not in str(error).lower():
            raise
        return ms.load_checkpoint(str(path))


def save_weights(path: Path, tensors: Mapping[str, np.ndarray], card: Mapping[str, Any]) -> None:
    """Writes the weights and, after them, their card with the weights' sha256."""
    save_tensors(path, tensors)
    write_json(card_path(path), {**card, "sha256": sha256_of(path)})


def load_weights(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads weights and their card (empty if there is none).

    Raises:
        UserError: a file is missing or damaged, or the card belongs to other weights.
    """
    tensors = load_tensors(path)
    if not card_path(path).is_file():
        return tensors, {}
    card = read_json(card_path(path))
    if not isinstance(card, dict):
        raise UserError(f"{card_path(path)} is no card of a checkpoint: it holds no object")
    expected = card.get("sha256")
    if expected and expected != sha256_of(path):
        raise UserError(
            f"{path} is not the file that its card {card_path(path).name} describes (sha256 differs): it was "
            "damaged or replaced.\nCopy both again, or remove the card if you changed the weights on purpose."
        )
    return tensors, card


def fill_network(network: nn.Cell, tensors: Mapping[str, np.ndarray], source: Path, hint: str = "") -> None:
    """Gives every parameter and statistic of a network its tensor.

    Args:
        network: its parameter names must be those of the tensors.
        source: the file, for messages.
        hint: what to do about tensors that do not fit; added to the message.

    Raises:
        UserError: a tensor is missing, left over or of another shape; nothing was changed then.
    """
    own = {p.name: p for p in network.get_parameters()}
    missing = [name for name in own if name not in tensors]
    unused = [name for name in tensors if name not in own]
    reshaped = [
        f"{name} is {tuple(tensors[name].shape)}, the network's {tuple(p.shape)}"
        for name, p in own.items()
        if name in tensors and tuple(tensors[name].shape) != tuple(p.shape)
    ]
    if missing or unused or reshaped:
        parts = [
            f"{len(items)} {what}: {some_of(items)}"
            for what, items in (
                ("tensors of the network are missing", missing),
                ("tensors belong to no layer", unused),
                ("have another shape", reshaped),
            )
            if items
        ]
        raise UserError(f"{source} does not fit the network. " + "; ".join(parts) + (f".\n{hint}" if hint else "."))
    for name, parameter in own.items():
        parameter.set_data(ms.Tensor(np.ascontiguousarray(tensors[name]), parameter.dtype))


def tensors_of(network: nn.Cell) -> dict[str, np.ndarray]:
    """Every parameter and statistic of a network, by name, as copies."""
    return {p.name: p.asnumpy().copy() for p in network.get_parameters()}


def some_of(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
