"""A weights file and its card: what a network needs to be rebuilt, checked when it is read."""

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

# Entry of a card that is being replaced: the card before.
_BEFORE = "before"
# What MindSpore raises, depending on where a file is damaged.
_UNREADABLE = (ValueError, RuntimeError, TypeError, KeyError, IndexError, AttributeError, OverflowError, OSError,
               MemoryError)  # fmt: skip


def card_path(weights: Path) -> Path:
    """The card stands beside the weights, with the suffix `.json`."""
    return weights.with_suffix(".json")


def save_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a plain MindSpore checkpoint (with its own checksum); the file is whole or absent.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    with atomic_path(path) as beside:
        _write_checkpoint(beside, tensors)


def _write_checkpoint(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    try:
        ms.save_checkpoint(
            [{"name": name, "data": ms.Tensor(value)} for name, value in tensors.items()], str(path), crc_check=True
        )
    finally:
        # MindSpore writes to this name first, and leaves what it wrote there when the disk is full.
        path.with_suffix(".tmp").unlink(missing_ok=True)


def load_tensors(path: Path) -> dict[str, np.ndarray]:
    """Reads a MindSpore checkpoint.

    Raises:
        UserError: the file is missing, is no checkpoint, or its content does not match its checksum.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    try:
        return {name: value.asnumpy() for name, value in _read_checkpoint(path).items()}
    except _UNREADABLE as error:
        # The first cause tells more than what MindSpore makes of it (that permissions may be missing).
        cause = error.__cause__ or error
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise UserError(
            f"{path} is no whole MindSpore checkpoint: {reason}\n"
            "Copy it again, or take an older one. Files of other programs are read by `msdet import`."
        ) from error


def _read_checkpoint(path: Path) -> dict[str, ms.Parameter]:
    # Files without a checksum are common (the old zoo's): MindSpore reads them with a warning.
    return ms.load_checkpoint(str(path), crc_check=True)


def save_weights(path: Path, tensors: Mapping[str, np.ndarray], card: Mapping[str, Any]) -> None:
    """Writes weights and their card with the weights' sha256.

    Where both stood there before, the card tells of the old weights too until the new ones have their name, so that
    weights and card fit each other whenever this is interrupted.

    Raises:
        UserError: the disk is full or the folder cannot be written; what stood there before is whole.
    """
    before = _card_of(path)
    with atomic_path(path) as beside:
        _write_checkpoint(beside, tensors)
        content = {**card, "sha256": sha256_of(beside)}
        if before:
            write_checksummed(card_path(path), {**content, _BEFORE: before})
    write_checksummed(card_path(path), content)


def _card_of(path: Path) -> dict[str, Any]:
    """The card of weights that are about to be replaced; empty if there is none that fits them."""
    if not path.is_file():
        return {}
    try:
        return read_card(path)
    except UserError:
        # Damaged already: the new card takes its place.
        return {}


def read_card(path: Path) -> dict[str, Any]:
    """The card of weights, held against them; empty if there is none.

    Args:
        path: the weights.

    Raises:
        UserError: the card is damaged, or belongs to other weights.
    """
    if not card_path(path).is_file():
        return {}
    card = read_checksummed(card_path(path))
    before = card.pop(_BEFORE, {})
    expected = card.get("sha256")
    if not expected:
        return card
    found = sha256_of(path)
    if expected == found:
        return card
    if isinstance(before, dict) and before.get("sha256") == found:
        return before
    raise UserError(
        f"{path} is not the file that its card {card_path(path).name} describes (sha256 differs): it was "
        "damaged or replaced.\nCopy both again, or remove the card if you changed the weights on purpose."
    )


def load_weights(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads weights and their card (empty if there is none).

    Raises:
        UserError: a file is missing or damaged, the card belongs to other weights, or the weights are those of the old
            model zoo; the message has the command that imports them.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    card = read_card(path)
    tensors = load_tensors(path)
    reject_old_checkpoint(path, tensors)
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
    """Every parameter and statistic of a network, by name, as copies."""
    return {p.name: p.asnumpy().copy() for p in network.get_parameters()}
