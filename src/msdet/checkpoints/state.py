"""The checkpoints of a run: weights with their card, and the state that lets training go on bit for bit.

One checkpoint is four files. `NAME-E_S.ckpt` holds the weights to use (the moving averages where the run keeps any) and
`NAME-E_S.json` their card; `NAME-E_S.state.ckpt` holds what training needs besides, and the manifest,
`NAME-E_S.state.json`, written last, the step, the configuration, the sha256 of the others and that of its own text. A
checkpoint counts as whole if the manifest is there and all sums agree. E is the number of finished epochs, S that of
steps since the start of training.
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
# What `atomic_path` and MindSpore call a file until it is whole.
_BESIDE = re.compile(r"\..+\.\d+\.(ckpt|json|tmp)")


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
    """Writes and prunes the checkpoints of one run; no other process writes to the folder.

    Args:
        folder: where they lie; made when the first is written.
        name: first part of the file names.
        keep: how many of the newest stay.
    """

    def __init__(self, folder: Path, name: str, keep: int) -> None:
        self.folder = folder
        self.name = name
        self.keep = keep

    def save(
        self, snapshot: Snapshot, card: Mapping[str, Any], is_extra: bool = False, replaces: Path | None = None
    ) -> Path:
        """Writes one checkpoint, prunes the oldest, and returns the path of the weights.

        Args:
            snapshot: what it holds.
            card: of the weights.
            is_extra: it does not count among the `keep` that stay.
            replaces: manifest of a checkpoint that is removed once this one is whole.

        Raises:
            UserError: the disk is full or the folder cannot be written; older checkpoints stay whole.
        """
        manifest = self.manifest(snapshot.progress["epoch"], snapshot.progress["step"])
        weights, _, state = _parts(manifest)
        with _explained(self.folder):
            self._remove_leftovers()
            self._set_later_ones_aside(int(snapshot.progress["step"]))
            # The state goes first and leaves last: one without a manifest tells of a write or a removal that was cut
            # short, while weights alone may be all that somebody wanted to keep.
            raw = {_RAW + name: value for name, value in snapshot.weights.items()} if snapshot.averages else {}
            save_tensors(state, {**snapshot.state, **raw})
            kind = "moving average" if snapshot.averages else "as trained"
            save_weights(weights, snapshot.averages or snapshot.weights, {**card, "weights": kind})
            content = {
                "progress": dict(snapshot.progress),
                "dataset": snapshot.dataset,
                "sha256": {path.name: sha256_of(path) for path in _parts(manifest)},
                "config": dict(snapshot.config),
            }
            write_checksummed(manifest, content)
            _aside(manifest).unlink(missing_ok=True)
            if replaces is not None and replaces != manifest:
                _remove(replaces)
            for old in list(checkpoints_in(self.folder, self.name))[self.keep + is_extra :]:
                _remove(old)
        return weights

    def manifest(self, epoch: int, step: int) -> Path:
        """Path of the manifest of the checkpoint after so many epochs and steps."""
        return self.folder / f"{self.name}-{epoch}_{step}.state.json"

    def note(self, manifest: Path, progress: Mapping[str, Any]) -> None:
        """Adds to the progress of a checkpoint what was learnt about it after it was written.

        Raises:
            UserError: the folder cannot be written; the checkpoint stays as it was.
        """
        content = read_checksummed(manifest, require_checksum=True)
        write_checksummed(manifest, {**content, "progress": {**content["progress"], **progress}})

    def _remove_leftovers(self) -> None:
        """Removes what a process that was killed while it wrote or pruned has left."""
        for path in self.folder.glob(f".{self.name}-*"):
            if _BESIDE.fullmatch(path.name):
                path.unlink(missing_ok=True)
        for state in self.folder.glob(f"{self.name}-*.state.ckpt"):
            manifest = state.with_suffix(".json")
            if not manifest.exists() and not _aside(manifest).exists():
                _remove_parts(manifest)

    def _set_later_ones_aside(self, step: int) -> None:
        """Renames the manifests of checkpoints beyond a step.

        A run goes on from an older one if the later are damaged or if it was told to. Counted among the newest, they
        would push out the new ones, and the next `--resume=auto` would go on from them.
        """
        for manifest in checkpoints_in(self.folder, self.name):
            if _step_of(manifest) > step:
                manifest.replace(_aside(manifest))
                log.warning("%s is set aside: this run is at step %d again", manifest.name, step)


def _aside(manifest: Path) -> Path:
    return manifest.with_name(f"{manifest.name}.set_aside")


def _remove(manifest: Path) -> None:
    # Without the manifest the rest is no checkpoint, whenever this is interrupted.
    manifest.unlink(missing_ok=True)
    _remove_parts(manifest)


def _remove_parts(manifest: Path) -> None:
    for path in _parts(manifest):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{error.filename or folder} cannot be written: {error.strerror or error}") from error


def _step_of(manifest: Path) -> int:
    match = _PATTERN.fullmatch(manifest.name)
    return int(match["step"]) if match else -1


def checkpoints_in(folder: Path, name: str | None = None) -> Iterator[Path]:
    """Manifests of the checkpoints in a folder, those of the most steps first."""
    found = [(_step_of(path), path) for path in folder.glob("*.state.json") if _PATTERN.fullmatch(path.name)]
    for _, path in sorted(found, reverse=True):
        if name is None or path.name.startswith(f"{name}-"):
            yield path


def newest_whole(folders: list[Path], passed_over: list[str]) -> tuple[Path, Snapshot] | None:
    """The newest whole checkpoint in some folders; None if there is none.

    Args:
        folders: searched in this order; the first that holds a whole checkpoint wins.
        passed_over: gets a sentence for each checkpoint that is not whole.
    """
    for folder in folders:
        for manifest in checkpoints_in(folder):
            try:
                return manifest, load_snapshot(manifest)
            except UserError as error:
                passed_over.append(f"passed over {manifest}: {error}")
    return None


def load_snapshot(manifest: Path) -> Snapshot:
    """Reads and verifies one checkpoint.

    Args:
        manifest: the path of any of its four files.

    Raises:
        UserError: a file is missing or damaged.
    """
    manifest = manifest_of(manifest)
    described = read_checksummed(manifest, require_checksum=True)
    kinds = {"sha256": dict, "progress": dict, "config": dict, "dataset": str}
    wrong = next((name for name, kind in kinds.items() if not isinstance(described.get(name), kind)), None)
    if wrong is not None:
        raise UserError(f"{manifest} does not describe a checkpoint: {wrong!r} is missing or wrong")
    sums = described["sha256"]
    weights, card, state = _parts(manifest)
    for path in (weights, card, state):
        if not path.is_file():
            raise UserError(f"{path} is missing, without which the checkpoint cannot be continued")
        with _readable(path):
            is_whole = sums.get(path.name) == sha256_of(path)
        if not is_whole:
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


def model_of(manifest: Path) -> str | None:
    """The model that a checkpoint is of, from its manifest alone; None if that is damaged."""
    try:
        config = read_checksummed(manifest, require_checksum=True).get("config")
    except UserError:
        return None
    return config.get("model") if isinstance(config, dict) else None


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


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
    """Weights, card and state, in the order in which they are removed."""
    stem = manifest.name[: -len(".state.json")]
    weights = manifest.with_name(f"{stem}.ckpt")
    return weights, card_path(weights), manifest.with_name(f"{stem}.state.ckpt")
