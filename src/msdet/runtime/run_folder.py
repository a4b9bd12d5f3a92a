"""Run folders: created exclusively, locked while a process writes to them, and found again to resume."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from msdet.checkpoints.state import checkpoints_in, manifest_of, model_of, newest_intact
from msdet.errors import UsageError, UserError
from msdet.files import make_unique_folder
from msdet.folder_lock import FolderInUse, FolderLock

if TYPE_CHECKING:
    from msdet.config import Config
    from msdet.runtime.start import Runtime


class RunFolder:
    """The folder of a run, locked against other processes; see `FolderLock`.

    Args:
        path: the folder; created if it does not exist.

    Raises:
        UserError: another process holds the lock, or the folder is not writable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._lock = FolderLock(path)
        except FolderInUse as error:
            raise UserError(
                f"{path} is in use by another training ({error}): wait until it ends, or choose another --run_name"
            ) from None
        except OSError as error:
            raise UserError(f"{error.filename or path} cannot be written: {error.strerror or error}") from error

    @classmethod
    def next_free(cls, root: Path, name: str) -> RunFolder:
        """A new folder: `root/name`, or the first of `name_2`, `name_3`, ... that does not exist.

        Raises:
            UserError: `root` is not writable.
        """
        return cls(make_unique_folder(root, name))

    def contains_run(self) -> bool:
        """Whether the folder has checkpoints or logged training steps."""
        if any(self.path.glob("ckpt_*/*.ckpt")):
            return True
        try:
            with (self.path / "summary" / "train.csv").open(newline="", encoding="utf-8", errors="replace") as file:
                return sum(1 for _ in zip(csv.reader(file), range(2), strict=False)) > 1
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Releases the lock."""
        self._lock.close()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def acquire_run_folder(cfg: Config, runtime: Runtime, notes: list[str], stack: ExitStack) -> tuple[Path, Path | None]:
    """Locks the folder of this run; returns it and the manifest of the checkpoint to resume from, or None.

    Rank 0 chooses and locks the folder, the other ranks use the same.

    Args:
        cfg: the configuration.
        runtime: ranks.
        notes: messages about the search are appended; they are logged later, because the log file is in that folder.
        stack: releases the lock.

    Raises:
        UserError: another training uses the folder, or ranks on several machines do not see the same checkpoints.
    """

    def choose() -> list[str]:
        folder, manifest = find_run(cfg, notes)
        stack.enter_context(folder)
        return [os.fsdecode(folder.path), os.fsdecode(manifest) if manifest else ""]

    folder, manifest = runtime.on_master(choose)
    if manifest and not Path(manifest).is_file():
        raise UserError(
            f"rank {runtime.rank} does not see {manifest}, from which rank 0 resumes: "
            f"ckpt_path {cfg.ckpt_path} must be a folder shared by all machines"
        )
    return Path(folder), Path(manifest) if manifest else None


def find_run(cfg: Config, notes: list[str]) -> tuple[RunFolder, Path | None]:
    """The folder of a new run and None, or that of the resumed run and the manifest of its checkpoint."""
    root, name = Path(cfg.ckpt_path), cfg.run_name or f"{datetime.now():%Y-%m-%d_time_%H_%M_%S}"
    if not cfg.resume:
        return _new_run(root, name, cfg), None
    if cfg.resume != "auto":
        # A relative path has no parent folders.
        manifest = manifest_of(Path(cfg.resume)).absolute()
        return RunFolder(manifest.parent.parent), manifest
    runs = [root / cfg.run_name] if cfg.run_name else list(_runs_of(cfg.model, root, notes))
    for run in [*runs, root]:
        checkpoints = sorted(run.glob("ckpt_*/"))
        if not checkpoints:
            continue
        folder = RunFolder(run)
        found = newest_intact(checkpoints, notes)
        if found is not None:
            return folder, found[0]
        folder.close()
    notes.append(f"resume=auto: {root} has no intact checkpoint of {cfg.run_name or cfg.model}; training starts anew")
    return RunFolder(root / name) if cfg.run_name else RunFolder.next_free(root, name), None


def _new_run(root: Path, name: str, cfg: Config) -> RunFolder:
    if not cfg.run_name:
        return RunFolder.next_free(root, name)
    folder = RunFolder(root / name)
    if folder.contains_run():
        folder.close()
        raise UsageError(
            f"{folder.path} already contains a run: set --resume=auto to resume it, or choose another --run_name"
        )
    return folder


def _runs_of(model: str, root: Path, notes: list[str]) -> Iterator[Path]:
    """Run folders, newest checkpoint first; runs of another model are skipped."""
    for run in sorted(root.glob("*/"), key=_newest_state, reverse=True):
        newest = next((path for folder in sorted(run.glob("ckpt_*/")) for path in checkpoints_in(folder)), None)
        trained = model_of(newest) if newest else model
        if trained in (model, None):
            yield run
        else:
            notes.append(f"resume=auto: skipped {run}, a run of {trained}")


def _newest_state(run: Path) -> float:
    newest = 0.0
    for path in run.glob("ckpt_*/*.state.json"):
        # A running training may delete the file meanwhile.
        with suppress(FileNotFoundError):
            newest = max(newest, path.stat().st_mtime)
    return newest
