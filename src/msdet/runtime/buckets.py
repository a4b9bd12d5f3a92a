"""Downloads from and uploads to buckets: obs:// and s3:// URLs, or a local folder in place of a bucket.

URLs are accessed by moxing where it is installed, as on ModelArts, else by boto3, an optional package. boto3 gets
credentials and server from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL (for OBS
https://obs.REGION.myhuaweicloud.com).

fsspec with s3fs would replace only the listing of objects here: skipping files that are up to date, atomic downloads
and the check of paths would remain, and it needs aiobotocore with its pinned botocore and ten more packages.
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
    """Whether a text is the URL of a bucket."""
    return text.startswith(_SCHEMES)


class Bucket(ABC):
    """A folder or file at a URL.

    Args:
        url: obs:// or s3:// URL, or local path.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    @abstractmethod
    def download(self, folder: Path, must_exist: bool = True) -> None:
        """Copies the files below the URL, or the file at it, to a folder; files that are up to date are skipped.

        Raises:
            UserError: there is no file and `must_exist` is set, or a file cannot be read.
        """

    @abstractmethod
    def upload(self, path: Path, name: str) -> None:
        """Copies a file to `name` below the URL.

        Raises:
            UserError: it cannot be written.
        """

    def _report_missing(self, must_exist: bool) -> None:
        if must_exist:
            raise UserError(f"there is nothing at {self.url}")


class LocalBucket(Bucket):
    """A local folder in place of a bucket."""

    def download(self, folder: Path, must_exist: bool = True) -> None:
        source = Path(self.url.removeprefix("file://"))
        if not source.exists():
            self._report_missing(must_exist)
            return
        files = [source] if source.is_file() else [path for path in sorted(source.rglob("*")) if path.is_file()]
        if source.is_file():
            source = source.parent
        for path in files:
            target = folder / path.relative_to(source)
            if not _is_up_to_date(target, path.stat().st_size, path.stat().st_mtime):
                _copy(path, target)

    def upload(self, path: Path, name: str) -> None:
        _copy(path, Path(self.url.removeprefix("file://")) / name)


class MoxingBucket(Bucket):
    """A URL accessed by moxing of ModelArts; it is downloaded once for each folder."""

    def __init__(self, url: str, files: Any) -> None:
        super().__init__(url)
        self.files = files

    def download(self, folder: Path, must_exist: bool = True) -> None:
        # moxing copies all files each time; the record lets the first of several processes do it for all.
        record = folder / ".fetched"
        done = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
        if self.url in done:
            return
        if not self.files.exists(self.url):
            self._report_missing(must_exist)
            return
        if self.files.is_directory(self.url):
            self.files.copy_parallel(self.url, str(folder))
        else:
            self.files.copy(self.url, str(folder / self.url.rsplit("/", 1)[-1]))
        record.write_text("\n".join([*done, self.url, ""]), encoding="utf-8")

    def upload(self, path: Path, name: str) -> None:
        self.files.copy(str(path), f"{self.url}/{name}")


class S3Bucket(Bucket):
    """A URL accessed by boto3."""

    def __init__(self, url: str, client: Any) -> None:
        super().__init__(url)
        self.client = client
        self.name, _, self.prefix = self.url.split("://", 1)[1].partition("/")

    def download(self, folder: Path, must_exist: bool = True) -> None:
        with self._explained_errors():
            found = self._download(folder)
        if not found:
            self._report_missing(must_exist)

    def upload(self, path: Path, name: str) -> None:
        with self._explained_errors():
            self.client.upload_file(str(path), self.name, "/".join(filter(None, (self.prefix, name))))

    @contextmanager
    def _explained_errors(self) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (Boto3Error, BotoCoreError, ClientError) as error:
            raise UserError(
                f"{self.url}: {error}. Credentials and server are read from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY "
                "and AWS_ENDPOINT_URL"
            ) from error

    def _download(self, folder: Path) -> bool:
        found = False
        for key, size, time in self._objects():
            found = True
            inside = key[len(self.prefix) :].lstrip("/") or key.rsplit("/", 1)[-1]
            if ".." in PurePosixPath(inside).parts:
                raise UserError(f"{self.url} contains {key!r}, outside of its folder")
            target = folder / inside
            if _is_up_to_date(target, size, time):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = _temporary_path(target)
            self.client.download_file(self.name, key, str(temporary))
            os.utime(temporary, (time, time))
            _rename(temporary, target)
        return found

    def _objects(self) -> Iterator[tuple[str, int, float]]:
        """Yields key, size and modification time of the object at the URL, and of those below it as a folder."""
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=self.prefix):
            for entry in page.get("Contents", ()):
                rest = entry["Key"][len(self.prefix) :]
                if not entry["Key"].endswith("/") and (not self.prefix or not rest or rest.startswith("/")):
                    yield entry["Key"], entry["Size"], entry["LastModified"].timestamp()


def open_bucket(url: str) -> Bucket:
    """The bucket of a URL or local path.

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
            f"{url} needs moxing, which ModelArts has, or boto3: pip install boto3. A local folder can be used instead"
        ) from error
    return S3Bucket(url, boto3.client("s3"))


def _is_up_to_date(target: Path, size: int, time: float) -> bool:
    """Whether a file exists with this size and modification time."""
    return target.is_file() and target.stat().st_size == size and abs(target.stat().st_mtime - time) < 1


def _copy(source: Path, target: Path) -> None:
    temporary = _temporary_path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, temporary)
        _rename(temporary, target)
    except OSError as error:
        raise UserError(f"{source} cannot be copied to {target}: {error.strerror or error}") from error


def _rename(temporary: Path, target: Path) -> None:
    """Renames a copy after syncing its content. The rename itself is not synced: a lost one is copied again."""
    sync_to_disk(temporary)
    temporary.replace(target)


def _temporary_path(target: Path) -> Path:
    return target.with_name(f".{target.name}.{unique_number()}")
