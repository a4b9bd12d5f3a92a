"""Jobs on ModelArts: data and checkpoints are downloaded from a bucket, results are uploaded to one.

With `enable_modelarts` a command downloads `data_url` to `data_path` and `checkpoint_url` to `load_path`, unpacks zip
files there, works in `output_path`, and uploads new files of it to `train_url` after every checkpoint and at the end.
The processes of a machine share these folders: the first one does the work, holding a lock on the folder that the
system releases when the process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import logging
import os
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from msdet.data.formats.mindrecord.read import shard_paths
from msdet.errors import UserError
from msdet.files import read_json, write_json
from msdet.runtime.buckets import is_url, open_bucket

if TYPE_CHECKING:
    from msdet.config import Config

log = logging.getLogger(__name__)
ConfigT = TypeVar("ConfigT", bound="Config")

# Records in the folders of what was unpacked and uploaded.
_UNPACKED, _DELIVERED = ".unpacked.json", ".delivered.json"
# Subfolder of output_path, and so of train_url, in which create_data writes MindRecord files.
RECORDS = "mindrecord"
_WEIGHTS = ("pretrained", "pretrained_backbone")


def on_modelarts(command: Callable[[ConfigT], int]) -> Callable[[ConfigT], int]:
    """Decorates a command to download its inputs and upload its results if `enable_modelarts` is set."""

    @functools.wraps(command)
    def run(cfg: ConfigT) -> int:
        if not cfg.enable_modelarts:
            return command(cfg)
        cfg = download_inputs(cfg)
        try:
            code = command(cfg)
        except BaseException:
            try_upload(cfg)
            raise
        upload_results(cfg)
        return code

    return run


def download_inputs(cfg: ConfigT) -> ConfigT:
    """Downloads data and checkpoints; returns the configuration with the local paths.

    Raises:
        UserError: a URL is empty, a zip file is damaged or unsafe, or the client library of the bucket is missing.
    """
    data, weights, output = Path(cfg.data_path), Path(cfg.load_path), Path(cfg.output_path)
    values: dict[str, str] = {"ckpt_path": str(output), "log_path": str(output)}
    if cfg.data_url:
        with locked(data):
            open_bucket(cfg.data_url).download(data)
            if cfg.need_modelarts_dataset_unzip:
                unpack_all(data, cfg.modelarts_dataset_unzip_name)
        values |= _data_keys(cfg, data)
    if cfg.checkpoint_url:
        with locked(weights):
            open_bucket(cfg.checkpoint_url).download(weights)
        if cfg.checkpoint_url.endswith(".ckpt") and not any(getattr(cfg, name) for name in _WEIGHTS):
            values["pretrained"] = str(weights / _last_part(cfg.checkpoint_url))
    for name in _WEIGHTS:
        url = getattr(cfg, name, "")
        if is_url(url):
            values[name] = str(_download_weights(url, weights))
    if cfg.resume and cfg.train_url:
        with locked(output):
            open_bucket(cfg.train_url).download(output, must_exist=False)
    return cfg.replace(**values)


def upload_results(cfg: Config) -> None:
    """Uploads new files of `output_path` to `train_url`.

    Raises:
        UserError: the bucket is not writable.
    """
    output = Path(cfg.output_path)
    if not (cfg.train_url and output.is_dir()):
        return
    bucket = open_bucket(cfg.train_url)
    with locked(output):
        record = output / _DELIVERED
        done = read_json(record) if record.exists() else {}
        done = done.get(cfg.train_url, {}) if isinstance(done, dict) else {}
        now = {str(path.relative_to(output)): path for path in sorted(output.rglob("*")) if _is_result(path, output)}
        for name, path in now.items():
            mark = _mark(path)
            if done.get(name) != mark:
                bucket.upload(path, name)
                done[name] = mark
        write_json(record, {cfg.train_url: done})
    if now:
        log.info("results are in %s", cfg.train_url)


def try_upload(cfg: Config) -> None:
    """As `upload_results`, but a failing upload only logs a warning, so that training continues."""
    try:
        upload_results(cfg)
    except UserError as error:
        log.warning("upload failed, it is retried later: %s", error)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Creates a folder and locks it against other processes of this machine, without a lock file."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be created: {error.strerror}. Choose another by --data_path, --load_path or --output_path"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def unpack_all(folder: Path, name: str) -> None:
    """Unpacks NAME.zip in a folder, or if there is none, all zip files in it; see `unpack`."""
    named = folder / f"{name}.zip"
    for path in [named] if named.is_file() else sorted(folder.glob("*.zip")):
        unpack(path)


def unpack(path: Path) -> None:
    """Unpacks a zip file into its folder, unless that was already done; an interrupted unpacking is repeated.

    Raises:
        UserError: the file is damaged or encrypted; a member is a link, is outside of the folder or would overwrite
            another file; the disk is full.
    """
    record = path.parent / _UNPACKED
    known = read_json(record) if record.exists() else {}
    entry = known.get(path.name, {})
    if entry.get("mark") == _mark(path) and entry.get("whole"):
        return
    temporary = path.parent / f".{path.name}.unpacking"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive, shutil.disk_usage(path.parent).free)
            log.info("unpacking %s", path)
            archive.extractall(temporary)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise UserError(f"{path} cannot be unpacked: {error}") from error
    tops = sorted(top.name for top in temporary.iterdir())
    own = set(entry.get("tops", ()))
    existing = [top for top in tops if (path.parent / top).exists() and top not in own]
    if existing:
        shutil.rmtree(temporary)
        raise UserError(
            f"{path} would overwrite {path.parent / existing[0]}: remove one of them, or set "
            "--need_modelarts_dataset_unzip=False to use the existing files"
        )
    # Recorded first: if this process is killed now, files of these names are known to be from the archive.
    write_json(record, {**known, path.name: {"mark": _mark(path), "tops": tops, "whole": False}})
    for top in tops:
        target = path.parent / top
        if target.is_dir():
            shutil.rmtree(target)
        (temporary / top).replace(target)
    temporary.rmdir()
    write_json(record, {**known, path.name: {"mark": _mark(path), "tops": tops, "whole": True}})


def _check_members(path: Path, archive: zipfile.ZipFile, free: int) -> None:
    for member in archive.infolist():
        place = PurePosixPath(member.filename.replace("\\", "/"))
        if place.is_absolute() or ".." in place.parts or ":" in "".join(place.parts[:1]):
            raise UserError(f"{path} contains {member.filename!r}, outside of its folder; nothing was unpacked")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise UserError(f"{path} contains the link {member.filename!r}; nothing was unpacked")
    needed = sum(member.file_size for member in archive.infolist())
    if needed > free:
        raise UserError(f"{path} needs {needed / 1e9:.1f} GB unpacked; {path.parent} has {free / 1e9:.1f} GB free")


def _data_keys(cfg: Config, data: Path) -> dict[str, str]:
    """Keys with the local paths of the dataset, if the configuration does not set them."""
    inside = data / cfg.modelarts_dataset_unzip_name
    folder = inside if cfg.modelarts_dataset_unzip_name and inside.is_dir() else data
    # A create_data job uploads its MindRecord files to the folder RECORDS of its train_url.
    records = [place for place in (data, data / RECORDS, folder, folder / RECORDS) if _holds_records(place)]
    if hasattr(cfg, "mindrecord_dir") and not cfg.mindrecord_dir and records:
        return {"mindrecord_dir": str(records[0])}
    return {} if cfg.data_dir else {"data_dir": str(folder)}


def _holds_records(folder: Path) -> bool:
    return any(shard_paths(folder / split, split) for split in ("train", "val", "test"))


def _download_weights(url: str, folder: Path) -> Path:
    """Downloads a checkpoint, and its card if it has one; returns the local path."""
    with locked(folder):
        stem = url.rsplit(".", 1)[0]
        open_bucket(f"{stem}.json").download(folder, must_exist=False)
        open_bucket(url).download(folder)
    return folder / _last_part(url)


def _last_part(url: str) -> str:
    return url.rstrip("/").rsplit("/", 1)[-1]


def _is_result(path: Path, output: Path) -> bool:
    """Whether a file is complete: temporary files have hidden names."""
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(output).parts)


def _mark(path: Path) -> list[int]:
    """Size and modification time, which identify the version of a file."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
