"""Jobs on ModelArts: data and checkpoints come from a bucket, results go back to one.

Where `enable_modelarts` is set, a command fetches `data_url` into `data_path` and `checkpoint_url` into `load_path`,
unpacks zip files there, works in `output_path`, and delivers what is new in it to `train_url` after every checkpoint
and at the end. Several processes of a machine share these folders: the first that comes does the work, under a lock on
the folder itself, which the system frees when its owner ends, however that happens.
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

# Kept in the folders: what was unpacked, what was delivered.
_UNPACKED, _DELIVERED = ".unpacked.json", ".delivered.json"
# Where in output_path, and so below train_url, create_data writes MindRecord files.
RECORDS = "mindrecord"
_WEIGHTS = ("pretrained", "pretrained_backbone")


def on_modelarts(command: Callable[[ConfigT], int]) -> Callable[[ConfigT], int]:
    """Lets a command of a configuration run on ModelArts where the configuration says so."""

    @functools.wraps(command)
    def run(cfg: ConfigT) -> int:
        if not cfg.enable_modelarts:
            return command(cfg)
        cfg = fetch(cfg)
        try:
            code = command(cfg)
        except BaseException:
            try_upload(cfg)
            raise
        upload_results(cfg)
        return code

    return run


def fetch(cfg: ConfigT) -> ConfigT:
    """Brings data and checkpoints here; returns the configuration that names the local files.

    Raises:
        UserError: an address holds nothing, a zip file is damaged or dangerous, or the client of the bucket is missing.
    """
    data, weights, output = Path(cfg.data_path), Path(cfg.load_path), Path(cfg.output_path)
    values: dict[str, str] = {"ckpt_path": str(output), "log_path": str(output)}
    if cfg.data_url:
        with locked(data):
            open_bucket(cfg.data_url).fetch(data)
            if cfg.need_modelarts_dataset_unzip:
                unpack_all(data, cfg.modelarts_dataset_unzip_name)
        values |= _data_keys(cfg, data)
    if cfg.checkpoint_url:
        with locked(weights):
            open_bucket(cfg.checkpoint_url).fetch(weights)
        if cfg.checkpoint_url.endswith(".ckpt") and not any(getattr(cfg, name) for name in _WEIGHTS):
            values["pretrained"] = str(weights / _last_part(cfg.checkpoint_url))
    for name in _WEIGHTS:
        url = getattr(cfg, name, "")
        if is_url(url):
            values[name] = str(_fetch_weights(url, weights))
    if cfg.resume and cfg.train_url:
        with locked(output):
            open_bucket(cfg.train_url).fetch(output, must_exist=False)
    return cfg.replace(**values)


def upload_results(cfg: Config) -> None:
    """Copies what is new in `output_path` to `train_url`.

    Raises:
        UserError: the bucket cannot be written.
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
                bucket.store(path, name)
                done[name] = mark
        write_json(record, {cfg.train_url: done})
    if now:
        log.info("results are in %s", cfg.train_url)


def try_upload(cfg: Config) -> None:
    """As `upload_results`, but a failing bucket only logs a warning, so that training continues."""
    try:
        upload_results(cfg)
    except UserError as error:
        log.warning("not delivered now: %s", error)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes a folder and holds it against the other processes of this machine; no file is left for it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{folder} cannot be made: {error.strerror}. Choose another with --data_path, --load_path or "
                        "--output_path") from error  # fmt: skip
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def unpack_all(folder: Path, name: str) -> None:
    """Unpacks NAME.zip of a folder, or if it has none every zip file in it, each once.

    Raises:
        UserError: see `unpack`.
    """
    named = folder / f"{name}.zip"
    for path in [named] if named.is_file() else sorted(folder.glob("*.zip")):
        unpack(path)


def unpack(path: Path) -> None:
    """Unpacks a zip file into its folder, unless that was done; what is half done after an end by force is done anew.

    Raises:
        UserError: it is damaged or encrypted; a member is a link, leaves the folder or takes the place of another file;
            the disk is too small.
    """
    record = path.parent / _UNPACKED
    known = read_json(record) if record.exists() else {}
    entry = known.get(path.name, {})
    if entry.get("mark") == _mark(path) and entry.get("whole"):
        return
    beside = path.parent / f".{path.name}.unpacking"
    shutil.rmtree(beside, ignore_errors=True)
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive, shutil.disk_usage(path.parent).free)
            log.info("unpacking %s", path)
            archive.extractall(beside)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError) as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise UserError(f"{path} cannot be unpacked: {error}") from error
    tops = sorted(top.name for top in beside.iterdir())
    ours = set(entry.get("tops", ()))
    taken = [top for top in tops if (path.parent / top).exists() and top not in ours]
    if taken:
        shutil.rmtree(beside)
        raise UserError(
            f"{path} would overwrite {path.parent / taken[0]}: remove one of them, or set "
            "--need_modelarts_dataset_unzip=False to use what is there"
        )
    # From here on what bears these names is ours, also if this process is killed before the end.
    write_json(record, {**known, path.name: {"mark": _mark(path), "tops": tops, "whole": False}})
    for top in tops:
        target = path.parent / top
        if target.is_dir():
            shutil.rmtree(target)
        (beside / top).replace(target)
    beside.rmdir()
    write_json(record, {**known, path.name: {"mark": _mark(path), "tops": tops, "whole": True}})


def _check_members(path: Path, archive: zipfile.ZipFile, free: int) -> None:
    for member in archive.infolist():
        place = PurePosixPath(member.filename.replace("\\", "/"))
        if place.is_absolute() or ".." in place.parts or ":" in "".join(place.parts[:1]):
            raise UserError(f"{path} holds {member.filename!r}, which leaves its folder; nothing was unpacked")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise UserError(f"{path} holds the link {member.filename!r}; nothing was unpacked")
    needed = sum(member.file_size for member in archive.infolist())
    if needed > free:
        raise UserError(f"{path} needs {needed / 1e9:.1f} GB unpacked; {path.parent} has {free / 1e9:.1f} GB free")


def _data_keys(cfg: Config, data: Path) -> dict[str, str]:
    """Keys that name the data, where the configuration leaves them open."""
    inside = data / cfg.modelarts_dataset_unzip_name
    folder = inside if cfg.modelarts_dataset_unzip_name and inside.is_dir() else data
    # A job of create_data delivers its MindRecord files in a folder RECORDS below its train_url.
    records = [place for place in (data, data / RECORDS, folder, folder / RECORDS) if _holds_records(place)]
    if hasattr(cfg, "mindrecord_dir") and not cfg.mindrecord_dir and records:
        return {"mindrecord_dir": str(records[0])}
    return {} if cfg.data_dir else {"data_dir": str(folder)}


def _holds_records(folder: Path) -> bool:
    return any(shard_paths(folder / split, split) for split in ("train", "val", "test"))


def _fetch_weights(url: str, folder: Path) -> Path:
    """A checkpoint named by its address, and its card if it has one."""
    with locked(folder):
        stem = url.rsplit(".", 1)[0]
        open_bucket(f"{stem}.json").fetch(folder, must_exist=False)
        open_bucket(url).fetch(folder)
    return folder / _last_part(url)


def _last_part(url: str) -> str:
    return url.rstrip("/").rsplit("/", 1)[-1]


def _is_result(path: Path, output: Path) -> bool:
    """Whether a file is whole: those in the making have hidden names."""
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(output).parts)


def _mark(path: Path) -> list[int]:
    """Tells two versions of a file apart."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
