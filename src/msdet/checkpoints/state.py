"""The checkpoints of a run: weights with their card, and the state needed to resume training bit for bit.

A checkpoint is four files. `NAME-E_S.ckpt` holds the weights to use (the moving averages if the run keeps them) and
`NAME-E_S.json` their card; `NAME-E_S.state.ckpt` holds the other tensors of the training state; the manifest
`NAME-E_S.state.json`, written last, holds the step, the configuration, the sha256 of the other files and of its own
text. A checkpoint is intact if the manifest exists and all checksums match. E is the number of finished epochs, S the
number of steps since the start of training.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msdet.checkpoints.weights_file import card_path, load_tensors, save_tensors, save_weights
from msdet.errors import UserError
from msdet.files import read_checksummed, sha256_of, write_checksummed

log = logging.getLogger(__name__)

_RAW = "raw."
_PATTERN = re.compile(r"(?P<name>.+)-(?P<epoch>\d+)_(?P<step>\d+)\.state\.json")
# Names of the temporary files of `atomic_path` and MindSpore.
_TEMPORARY = re.compile(r"\..+\.\d+\.(ckpt|json|tmp)")


@dataclass(frozen=True)
class Snapshot:
    """Content of a checkpoint.

    Attributes:
        weights: the tensors of the network as trained.
        averages: their moving averages; empty if the run keeps none.
        state: the tensors of the training step (velocity, averages, loss scale, ...).
        progress: position of the training and its scores (epoch, step, step_in_epoch, best score, ...).
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
    """Writes and prunes the checkpoints of one run; no other process may write to the folder.

    Args:
        folder: created when the first checkpoint is written.
        name: first part of the file names.
        keep: number of newest checkpoints to keep.
    """

    def __init__(self, folder: Path, name: str, keep: int) -> None:
        self.folder = folder
        self.name = name
        self.keep = keep

    def save(
        self, snapshot: Snapshot, card: Mapping[str, Any], is_extra: bool = False, replaces: Path | None = None
    ) -> Path:
        """Writes one checkpoint, removes the oldest ones, and returns the path of the weights.

        Args:
            snapshot: its content.
            card: of the weights.
            is_extra: do not count it among the `keep` newest.
            replaces: manifest of a checkpoint to remove once this one is written.

        Raises:
            UserError: the disk is full or the folder cannot be written; older checkpoints stay intact.
        """
        manifest = self.manifest(snapshot.progress["epoch"], snapshot.progress["step"])
        weights, _, state = _parts(manifest)
        with _write_errors(self.folder):
            self._remove_leftovers()
            self._set_aside_later(int(snapshot.progress["step"]))
            # The state file is written first and removed last: without a manifest it marks an interrupted write or
            # removal. Weights alone do not: a user may have kept only these.
            raw = {_RAW + name: value for name, value in snapshot.weights.items()} if snapshot.averages else {}
            save_tensors(state, {**snapshot.state, **raw})
            kind = "moving average" if snapshot.averages else "as trained"
            save_weights(weights, snapshot.averages or snapshot.weights, {**card, "weights": kind})
            described = {
                "progress": dict(snapshot.progress),
                "dataset": snapshot.dataset,
                "sha256": {path.name: sha256_of(path) for path in _parts(manifest)},
                "config": dict(snapshot.config),
            }
            write_checksummed(manifest, described)
            _aside(manifest).unlink(missing_ok=True)
            if replaces is not None and replaces != manifest:
                _remove(replaces)
            for old in list(checkpoints_in(self.folder, self.name))[self.keep + is_extra :]:
                _remove(old)
        return weights

    def manifest(self, epoch: int, step: int) -> Path:
        """Path of the manifest of the checkpoint after `epoch` epochs and `step` steps."""
        return self.folder / f"{self.name}-{epoch}_{step}.state.json"

    def update_progress(self, manifest: Path, progress: Mapping[str, Any]) -> None:
        """Adds entries, such as scores, to the progress of a checkpoint that is already written.

        Raises:
            UserError: the folder cannot be written; the checkpoint is unchanged.
        """
        described = read_checksummed(manifest, require_checksum=True)
        write_checksummed(manifest, {**described, "progress": {**described["progress"], **progress}})

    def _remove_leftovers(self) -> None:
        """Removes the files that a process left when it was killed while writing or pruning."""
        for path in self.folder.glob(f".{self.name}-*"):
            if _TEMPORARY.fullmatch(path.name):
                path.unlink(missing_ok=True)
        for state in self.folder.glob(f"{self.name}-*.state.ckpt"):
            manifest = state.with_suffix(".json")
            if not manifest.exists() and not _aside(manifest).exists():
                _remove_parts(manifest)

    def _set_aside_later(self, step: int) -> None:
        """Renames the manifests of checkpoints beyond a step.

        They exist where a run was resumed from an older checkpoint, by request or because later ones are damaged. Being
        the newest, they would push out the new checkpoints, and the next `--resume=auto` would start from them.
        """
        for manifest in checkpoints_in(self.folder, self.name):
            if _step_of(manifest) > step:
                manifest.replace(_aside(manifest))
                log.warning("%s is set aside: this resumed run is at step %d", manifest.name, step)


def _aside(manifest: Path) -> Path:
    return manifest.with_name(f"{manifest.name}.set_aside")


def _remove(manifest: Path) -> None:
    # The manifest first: without it the other files do not count as a checkpoint, even if this is interrupted.
    manifest.unlink(missing_ok=True)
    _remove_parts(manifest)


def _remove_parts(manifest: Path) -> None:
    for path in _parts(manifest):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{error.filename or folder} cannot be written: {error.strerror or error}") from error


def _step_of(manifest: Path) -> int:
    match = _PATTERN.fullmatch(manifest.name)
    return int(match["step"]) if match else -1


def checkpoints_in(folder: Path, name: str | None = None) -> Iterator[Path]:
    """Manifests of the checkpoints in a folder, ordered by descending step."""
    found = [(_step_of(path), path) for path in folder.glob("*.state.json") if _PATTERN.fullmatch(path.name)]
    for _, path in sorted(found, reverse=True):
        if name is None or path.name.startswith(f"{name}-"):
            yield path


def newest_intact(folders: list[Path], notes: list[str]) -> tuple[Path, Snapshot] | None:
    """Manifest and content of the newest intact checkpoint; None if there is none.

    Args:
        folders: searched in this order; the first one with an intact checkpoint is used.
        notes: receives one line per damaged checkpoint that was skipped.
    """
    for folder in folders:
        for manifest in checkpoints_in(folder):
            try:
                return manifest, load_snapshot(manifest)
            except UserError as error:
                notes.append(f"skipped {manifest}: {error}")
    return None


def load_snapshot(manifest: Path) -> Snapshot:
    """Reads and verifies one checkpoint.

    Args:
        manifest: path of any of its four files.

    Raises:
        UserError: a file is missing or damaged.
    """
    manifest = manifest_of(manifest)
    described = read_checksummed(manifest, require_checksum=True)
    kinds = {"sha256": dict, "progress": dict, "config": dict, "dataset": str}
    wrong = next((name for name, kind in kinds.items() if not isinstance(described.get(name), kind)), None)
    if wrong is not None:
        raise UserError(f"{manifest} does not describe a checkpoint: {wrong!r} is missing or has the wrong type")
    sums = described["sha256"]
    weights, card, state = _parts(manifest)
    for path in (weights, card, state):
        if not path.is_file():
            raise UserError(f"{path} is missing; without it the checkpoint cannot be resumed")
        with _read_errors(path):
            is_intact = sums.get(path.name) == sha256_of(path)
        if not is_intact:
            raise UserError(f"{path} is damaged: its sha256 differs from the one in {manifest.name}")
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


def model_of(manifest: Path) -> str | None:
    """Name of the model of a checkpoint, read from its manifest; None if that is damaged."""
    try:
        config = read_checksummed(manifest, require_checksum=True).get("config")
    except UserError:
        return None
    return config.get("model") if isinstance(config, dict) else None


@contextlib.contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def manifest_of(path: Path) -> Path:
    """The manifest of the checkpoint that a file belongs to.

    Raises:
        UserError: there is none, so training cannot be resumed from this file.
    """
    stem = path.name
    for suffix in (".state.json", ".state.ckpt", ".ckpt", ".json"):
        if stem.endswith(suffix):
            stem = stem[: -len(suffix)]
            break
    manifest = path.with_name(f"{stem}.state.json")
    if not manifest.is_file():
        raise UserError(
            f"{path} cannot be resumed: {manifest.name} is missing next to it. "
            "To start a new training from these weights, use --pretrained."
        )
    return manifest


def _parts(manifest: Path) -> tuple[Path, Path, Path]:
    """Paths of weights, card and state, in the order of removal."""
    stem = manifest.name[: -len(".state.json")]
    weights = manifest.with_name(f"{stem}.ckpt")
    return weights, card_path(weights), manifest.with_name(f"{stem}.state.ckpt")
