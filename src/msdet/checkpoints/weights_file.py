"""Weights files and their cards, which hold what is needed to rebuild the network; both are verified when read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from msdet.compat.checkpoints import reject_old_checkpoint
from msdet.errors import UserError
from msdet.files import atomic_path, read_checksummed, sha256_of, write_checksummed
from msdet.text import first_few

# Entry of a card while its weights are being replaced: the previous card.
_PREVIOUS = "before"
# What MindSpore raises for damaged files, depending on the place of the damage.
_READ_ERRORS = (ValueError, RuntimeError, TypeError, KeyError, IndexError, AttributeError, OverflowError, OSError,
               MemoryError)  # fmt: skip


def card_path(weights: Path) -> Path:
    """Path of the card of a weights file: next to it, with the suffix `.json`."""
    return weights.with_suffix(".json")


def save_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a plain MindSpore checkpoint with a checksum, atomically.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    with atomic_path(path) as temporary:
        _write_checkpoint(temporary, tensors)


def _write_checkpoint(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    try:
        ms.save_checkpoint(
            [{"name": name, "data": ms.Tensor(value)} for name, value in tensors.items()], str(path), crc_check=True
        )
    finally:
        # MindSpore writes to this file first, and leaves it behind when the disk is full.
        path.with_suffix(".tmp").unlink(missing_ok=True)


def load_tensors(path: Path) -> dict[str, np.ndarray]:
    """Reads a MindSpore checkpoint.

    Raises:
        UserError: the file is missing, not a checkpoint, or does not match its checksum.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    try:
        return {name: value.asnumpy() for name, value in _read_checkpoint(path).items()}
    except _READ_ERRORS as error:
        # The cause is more precise than the message of MindSpore, which suspects missing permissions.
        cause = error.__cause__ or error
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise UserError(
            f"{path} is not a valid MindSpore checkpoint: {reason}\n"
            "Copy it again, or use an older one. Weights of other programs are converted by `msdet import`."
        ) from error


def _read_checkpoint(path: Path) -> dict[str, ms.Parameter]:
    # Files without a checksum are common (those of the old zoo); MindSpore reads them with a warning.
    return ms.load_checkpoint(str(path), crc_check=True)


def save_weights(path: Path, tensors: Mapping[str, np.ndarray], card: Mapping[str, Any]) -> None:
    """Writes weights and their card, which holds the sha256 of the weights.

    If the files exist already, the card also describes the old weights until the new ones are renamed into place, so
    that weights and card match at any point of interruption.

    Raises:
        UserError: the disk is full or the folder cannot be written; existing files stay intact.
    """
    previous = _previous_card(path)
    with atomic_path(path) as temporary:
        _write_checkpoint(temporary, tensors)
        new = {**card, "sha256": sha256_of(temporary)}
        if previous:
            write_checksummed(card_path(path), {**new, _PREVIOUS: previous})
    write_checksummed(card_path(path), new)


def _previous_card(path: Path) -> dict[str, Any]:
    """The card of weights that are about to be replaced; empty if there is no valid one."""
    if not path.is_file():
        return {}
    try:
        return read_card(path)
    except UserError:
        # Damaged; the new card replaces it.
        return {}


def read_card(path: Path) -> dict[str, Any]:
    """Reads the card of a weights file and checks it against the weights; empty if there is none.

    Args:
        path: the weights.

    Raises:
        UserError: the card is damaged, or belongs to other weights.
    """
    if not card_path(path).is_file():
        return {}
    card = read_checksummed(card_path(path))
    previous = card.pop(_PREVIOUS, {})
    expected = card.get("sha256")
    if not expected:
        return card
    found = sha256_of(path)
    if expected == found:
        return card
    if isinstance(previous, dict) and previous.get("sha256") == found:
        return previous
    raise UserError(
        f"{path} is not the file that its card {card_path(path).name} describes (sha256 differs): it was "
        "damaged or replaced.\nCopy both again, or delete the card if you changed the weights on purpose."
    )


def load_weights(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads weights and their card (empty if there is none).

    Raises:
        UserError: a file is missing or damaged, the card belongs to other weights, or the weights are of the old model
            zoo; the message then gives the command that imports them.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    card = read_card(path)
    tensors = load_tensors(path)
    reject_old_checkpoint(path, tensors)
    return tensors, card


def fill_network(network: nn.Cell, tensors: Mapping[str, np.ndarray], source: Path, hint: str = "") -> None:
    """Loads tensors into all parameters and statistics of a network.

    Args:
        network: its parameter names must equal the names of the tensors.
        tensors: by name.
        source: the file, for messages.
        hint: appended to the message if tensors do not fit.

    Raises:
        UserError: a tensor is missing, unknown or of another shape; the network is unchanged then.
    """
    own = {p.name: p for p in network.get_parameters()}
    missing = [name for name in own if name not in tensors]
    unused = [name for name in tensors if name not in own]
    reshaped = [
        f"{name} is {tuple(tensors[name].shape)}, in the network {tuple(p.shape)}"
        for name, p in own.items()
        if name in tensors and tuple(tensors[name].shape) != tuple(p.shape)
    ]
    if missing or unused or reshaped:
        parts = [
            f"{len(items)} {what}: {first_few(items)}"
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
    """Copies of all parameters and statistics of a network, by name."""
    return {p.name: p.asnumpy().copy() for p in network.get_parameters()}
