"""The checkpoints of a run: weights with their card, and the state that lets training go on bit for bit.

One checkpoint is four files. `NAME-E_S.ckpt` holds the weights to use (the moving averages where the run keeps any) and
`NAME-E_S.json` their card; `NAME-E_S.state.ckpt` holds what training needs besides, and `NAME-E_S.state.json`, written
last, the step, the configuration and the sha256 of the others. A checkpoint counts as whole if that last file is there
and all sums agree. E is the number of finished epochs, S that of steps since the start of training.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from src.common.files import read_json, sha256_of, write_json
from src.engine.weights_file import card_path, load_tensors, save_tensors, save_weights
from src.errors import UserError

log = logging.getLogger(__name__)

_RAW = "raw."
_PATTERN = re.compile(r"(?P<name>.+)-(?P<epoch>\d+)_(?P<step>\d+)\.state\.json")


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint holds.

    Attributes:
        weights: the network's tensors as training left them.
        averages: their moving averages; empty if the run keeps none.
        state: the training step's tensors (velocity, averages, loss scale, ...).
        progress: numbers that tell where training stands (epoch, step, step_in_epoch, best score, ...).
        config: resolved configuration.
        dataset: fingerprint of the training data.
    """

    weights: Mapping[str, np.ndarray]
    averages: Mapping[str, np.ndarray]
    state: Mapping[str, np.ndarray]
    progress: Mapping[str, Any]
    config: Mapping[str, Any]
    dataset: str


class CheckpointFolder:
    """Writes, finds and prunes the checkpoints of one run.

    Args:
        folder: where they lie; made when the first is written.
        name: first part of the file names.
        keep: how many of the newest stay.
    """

    def __init__(self, folder: Path, name: str, keep: int) -> None:
        self.folder = folder
        self.name = name
        self.keep = keep

    def save(self, snapshot: Snapshot, card: Mapping[str, Any]) -> Path:
        """Writes one checkpoint, prunes the oldest, and returns the path of the weights.

        Raises:
            UserError: the disk is full or the folder cannot be written; older checkpoints stay whole.
        """
        stem = f"{self.name}-{snapshot.progress['epoch']}_{snapshot.progress['step']}"
        weights = self.folder / f"{stem}.ckpt"
        state = self.folder / f"{stem}.state.ckpt"
        kind = "moving average" if snapshot.averages else "as trained"
        save_weights(weights, snapshot.averages or snapshot.weights, {**card, "weights": kind})
        raw = {_RAW + name: value for name, value in snapshot.weights.items()} if snapshot.averages else {}
        save_tensors(state, {**snapshot.state, **raw})
        manifest = {
            "progress": dict(snapshot.progress),
            "dataset": snapshot.dataset,
            "sha256": {path.name: sha256_of(path) for path in (weights, card_path(weights), state)},
            "config": dict(snapshot.config),
        }
        write_json(self.folder / f"{stem}.state.json", manifest)
        self._prune()
        return weights

    def _prune(self) -> None:
        for manifest in list(checkpoints_in(self.folder, self.name))[self.keep :]:
            # The manifest goes first: without it the rest is no checkpoint, whenever this is interrupted.
            manifest.unlink()
            for path in _parts(manifest):
                path.unlink(missing_ok=True)


def checkpoints_in(folder: Path, name: str | None = None) -> Iterator[Path]:
    """Manifests of the checkpoints in a folder, those of the most steps first."""
    found = [(int(m["step"]), p) for p in folder.glob("*.state.json") if (m := _PATTERN.fullmatch(p.name))]
    for _, path in sorted(found, reverse=True):
        if name is None or path.name.startswith(f"{name}-"):
            yield path


def newest_whole(folders: list[Path]) -> tuple[Path, Snapshot] | None:
    """The newest whole checkpoint in some folders, and what was passed over, which is logged.

    Args:
        folders: searched in this order; the first that holds a whole checkpoint wins.
    """
    for folder in folders:
        for manifest in checkpoints_in(folder):
            try:
                return manifest, load_snapshot(manifest)
            except UserError as error:
                log.warning("passed over %s: %s", manifest.name, error)
    return None


def load_snapshot(manifest: Path) -> Snapshot:
    """Reads and verifies one checkpoint.

    Args:
        manifest: the path of any of its four files.

    Raises:
        UserError: a file is missing or damaged.
    """
    manifest = manifest_of(manifest)
    described = read_json(manifest)
    sums = described.get("sha256") if isinstance(described, dict) else None
    if not isinstance(sums, dict):
        raise UserError(f"{manifest} does not describe a checkpoint")
    weights, card, state = _parts(manifest)
    for path in (weights, card, state):
        if not path.is_file():
            raise UserError(f"{path} is missing, without which the checkpoint cannot be continued")
        if sums.get(path.name) != sha256_of(path):
            raise UserError(f"{path} is damaged: its sha256 is not the one noted in {manifest.name}")
    tensors = load_tensors(state)
    main = load_tensors(weights)
    raw = {name[len(_RAW) :]: value for name, value in tensors.items() if name.startswith(_RAW)}
    return Snapshot(
        weights=raw or main,
        averages=main if raw else {},
        state={name: value for name, value in tensors.items() if not name.startswith(_RAW)},
        progress=described["progress"],
        config=described["config"],
        dataset=described["dataset"],
    )


def manifest_of(path: Path) -> Path:
    """The manifest that belongs to any file of a checkpoint.

    Raises:
        UserError: there is none, so that training cannot go on from this file.
    """
    stem = path.name
    for suffix in (".state.json", ".state.ckpt", ".ckpt", ".json"):
        if stem.endswith(suffix):
            stem = stem[: -len(suffix)]
            break
    manifest = path.with_name(f"{stem}.state.json")
    if not manifest.is_file():
        raise UserError(
            f"{path} cannot be continued: {manifest.name} is not beside it. "
            "To start a new training from these weights use --pretrained."
        )
    return manifest


def _parts(manifest: Path) -> tuple[Path, Path, Path]:
    stem = manifest.name[: -len(".state.json")]
    weights = manifest.with_name(f"{stem}.ckpt")
    return weights, card_path(weights), manifest.with_name(f"{stem}.state.ckpt")
