"""Buckets: a local folder, a stub of moxing and a stub of boto3."""

from __future__ import annotations

import datetime
import os
import sys
import types
from pathlib import Path

import pytest

from msdet.errors import UserError
from msdet.runtime import buckets
from msdet.runtime.buckets import LocalBucket, open_bucket


def test_a_copy_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    forced = []
    monkeypatch.setattr(
        buckets, "sync_to_disk", lambda path: forced.append(sorted(p.name for p in path.parent.iterdir()))
    )
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.bin").write_bytes(b"x")
    LocalBucket(str(tmp_path / "in")).download(tmp_path / "out")
    ((name,),) = forced
    assert name.startswith(f".a.bin.{os.getpid()}") and (tmp_path / "out" / "a.bin").read_bytes() == b"x"


class FakeClient:
    """The calls of boto3's S3 client that are used, over a local folder of buckets."""

    def __init__(self, root, broken):
        self.root, self.broken = root, broken

    def get_paginator(self, name):
        assert name == "list_objects_v2"
        return self

    def paginate(self, Bucket, Prefix):
        if not (self.root / Bucket).is_dir():
            raise self.broken("NoSuchBucket")
        for path in sorted((self.root / Bucket).rglob("*")):
            key = path.relative_to(self.root / Bucket).as_posix()
            if path.is_file() and key.startswith(Prefix):
                time = datetime.datetime.fromtimestamp(int(path.stat().st_mtime), datetime.UTC)
                yield {"Contents": [{"Key": key, "Size": path.stat().st_size, "LastModified": time}]}
        yield {}

    def download_file(self, bucket, key, target):
        Path(target).write_bytes((self.root / bucket / key).read_bytes())

    def upload_file(self, source, bucket, key):
        (self.root / bucket / key).parent.mkdir(parents=True, exist_ok=True)
        (self.root / bucket / key).write_bytes(Path(source).read_bytes())


@pytest.fixture
def boto3(bucket, monkeypatch):
    names = ("boto3", "boto3.exceptions", "botocore", "botocore.exceptions")
    modules = {name: types.ModuleType(name) for name in names}
    broken = type("ClientError", (Exception,), {})
    modules["boto3.exceptions"].Boto3Error = type("Boto3Error", (Exception,), {})
    modules["botocore.exceptions"].BotoCoreError = type("BotoCoreError", (Exception,), {})
    modules["botocore.exceptions"].ClientError = broken
    modules["boto3"].client = lambda name: FakeClient(bucket, broken)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "moxing", None)
    return modules["boto3"]


def test_boto3_serves_elsewhere(bucket, boto3, tmp_path, monkeypatch):
    (bucket / "data" / "in").mkdir()
    (bucket / "data" / "in" / "a.txt").write_text("a")
    (bucket / "data" / "in2").mkdir()
    (bucket / "data" / "in2" / "b.txt").write_text("b")
    open_bucket("s3://data/in/").download(tmp_path / "got")
    assert [p.name for p in (tmp_path / "got").iterdir()] == ["a.txt"]
    monkeypatch.setattr(FakeClient, "download_file", None)
    open_bucket("s3://data/in").download(tmp_path / "got")


def test_boto3_stores_and_explains(bucket, boto3, tmp_path):
    open_bucket("s3://ckpt/w.ckpt").download(tmp_path)
    assert (tmp_path / "w.ckpt").read_text() == "weights"
    open_bucket("obs://out/run").upload(tmp_path / "w.ckpt", "x/y.ckpt")
    assert (bucket / "out" / "run" / "x" / "y.ckpt").read_text() == "weights"
    with pytest.raises(UserError, match="s3://nowhere/x: NoSuchBucket.*AWS_ENDPOINT_URL"):
        open_bucket("s3://nowhere/x").download(tmp_path)
    with pytest.raises(UserError, match="nothing at s3://data/none"):
        open_bucket("s3://data/none").download(tmp_path)


def test_neither_is_installed(monkeypatch):
    for name in ("moxing", "boto3"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match="pip install boto3"):
        open_bucket("obs://x")
