"""Files at an address: a local folder, or a bucket through moxing or boto3.

obs:// and s3:// go through moxing where it is installed, as on ModelArts; elsewhere through boto3, an optional package.
boto3 finds keys and server in its usual places: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL (for OBS
https://obs.REGION.myhuaweicloud.com). All else is a local path.
"""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from msdet.errors import UserError
from msdet.files import sync_to_disk, unique_number

_SCHEMES = ("obs://", "s3://")


def is_url(text: str) -> bool:
    """Whether an address is that of a bucket."""
    return text.startswith(_SCHEMES)


class Bucket(ABC):
    """A folder or file at an address.

    Args:
        url: the address.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    @abstractmethod
    def fetch(self, folder: Path, must_exist: bool = True) -> None:
        """Copies the files below the address, or the file at it, into a folder; those that are there already stay.

        Raises:
            UserError: there is nothing, or it cannot be read.
        """

    @abstractmethod
    def store(self, path: Path, name: str) -> None:
        """Copies a file to `name` below the address.

        Raises:
            UserError: it cannot be written.
        """

    def _nothing(self, must_exist: bool) -> None:
        if must_exist:
            raise UserError(f"there is nothing at {self.url}")


class LocalBucket(Bucket):
    """A local folder, which may stand for a bucket."""

    def fetch(self, folder: Path, must_exist: bool = True) -> None:
        source = Path(self.url.removeprefix("file://"))
        if not source.exists():
            self._nothing(must_exist)
            return
        files = [source] if source.is_file() else [path for path in sorted(source.rglob("*")) if path.is_file()]
        if source.is_file():
            source = source.parent
        for path in files:
            target = folder / path.relative_to(source)
            if not _is_copy(target, path.stat().st_size, path.stat().st_mtime):
                _copy(path, target)

    def store(self, path: Path, name: str) -> None:
        _copy(path, Path(self.url.removeprefix("file://")) / name)


class MoxingBucket(Bucket):
    """An address that ModelArts' own moxing serves; it is asked once for each folder."""

    def __init__(self, url: str, files: Any) -> None:
        super().__init__(url)
        self.files = files

    def fetch(self, folder: Path, must_exist: bool = True) -> None:
        # moxing copies everything each time; of several processes the first does it for all.
        record = folder / ".fetched"
        done = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
        if self.url in done:
            return
        if not self.files.exists(self.url):
            self._nothing(must_exist)
            return
        if self.files.is_directory(self.url):
            self.files.copy_parallel(self.url, str(folder))
        else:
            self.files.copy(self.url, str(folder / self.url.rsplit("/", 1)[-1]))
        record.write_text("\n".join([*done, self.url, ""]), encoding="utf-8")

    def store(self, path: Path, name: str) -> None:
        self.files.copy(str(path), f"{self.url}/{name}")


class S3Bucket(Bucket):
    """An address that boto3 serves."""

    def __init__(self, url: str, client: Any) -> None:
        super().__init__(url)
        self.client = client
        self.name, _, self.prefix = self.url.split("://", 1)[1].partition("/")

    def fetch(self, folder: Path, must_exist: bool = True) -> None:
        with self._explained():
            found = self._fetch(folder)
        if not found:
            self._nothing(must_exist)

    def store(self, path: Path, name: str) -> None:
        with self._explained():
            self.client.upload_file(str(path), self.name, "/".join(filter(None, (self.prefix, name))))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (Boto3Error, BotoCoreError, ClientError) as error:
            raise UserError(
                f"{self.url}: {error}. Keys and server are taken from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and "
                "AWS_ENDPOINT_URL"
            ) from error

    def _fetch(self, folder: Path) -> bool:
        found = False
        for key, size, time in self._objects():
            found = True
            inside = key[len(self.prefix) :].lstrip("/") or key.rsplit("/", 1)[-1]
            if ".." in PurePosixPath(inside).parts:
                raise UserError(f"{self.url} holds {key!r}, which leaves its folder")
            target = folder / inside
            if _is_copy(target, size, time):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            beside = _beside(target)
            self.client.download_file(self.name, key, str(beside))
            os.utime(beside, (time, time))
            _into_place(beside, target)
        return found

    def _objects(self) -> Iterator[tuple[str, int, float]]:
        """Key, size and time of the objects at the address and below it, but not of those it only begins like."""
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=self.prefix):
            for entry in page.get("Contents", ()):
                rest = entry["Key"][len(self.prefix) :]
                if not entry["Key"].endswith("/") and (not self.prefix or not rest or rest.startswith("/")):
                    yield entry["Key"], entry["Size"], entry["LastModified"].timestamp()


def open_bucket(url: str) -> Bucket:
    """What serves an address.

    Raises:
        UserError: neither moxing nor boto3 is installed.
    """
    if not is_url(url):
        return LocalBucket(url)
    try:
        import moxing
    except ImportError:
        moxing = None
    if moxing is not None:
        return MoxingBucket(url, moxing.file)
    try:
        import boto3
    except ImportError as error:
        raise UserError(
            f"{url} needs moxing, which ModelArts has, or elsewhere boto3: pip install boto3. A local folder serves too"
        ) from error
    return S3Bucket(url, boto3.client("s3"))


def _is_copy(target: Path, size: int, time: float) -> bool:
    """Whether a file has that size and time of change already."""
    return target.is_file() and target.stat().st_size == size and abs(target.stat().st_mtime - time) < 1


def _copy(source: Path, target: Path) -> None:
    beside = _beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, beside)
        _into_place(beside, target)
    except OSError as error:
        raise UserError(f"{source} cannot be copied to {target}: {error.strerror or error}") from error


def _into_place(beside: Path, target: Path) -> None:
    """Renames a copy whose content is on the disk; a name that a power cut takes back is copied again."""
    sync_to_disk(beside)
    beside.replace(target)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{unique_number()}")
