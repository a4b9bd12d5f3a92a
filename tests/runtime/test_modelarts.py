"""Jobs on ModelArts, with a local folder, a stand-in for moxing and one for boto3 as the bucket."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import pytest

from msdet.config import load_config
from msdet.errors import UserError
from msdet.runtime import modelarts
from msdet.runtime.buckets import LocalBucket

ROOT = Path(__file__).resolve().parents[2]


def config(tmp_path, **keys):
    values = {
        "enable_modelarts": "True",
        "data_path": tmp_path / "cache" / "data",
        "output_path": tmp_path / "cache" / "train",
        "load_path": tmp_path / "cache" / "ckpt",
        **keys,
    }
    return load_config(ROOT / "configs" / "yolov3.yaml", [f"--{name}={value}" for name, value in values.items()])


def test_a_job_from_bucket_to_bucket(bucket, tmp_path):
    """Data fetched and unpacked, weights fetched, results delivered."""
    cfg = config(
        tmp_path, data_url=bucket / "data", checkpoint_url=bucket / "ckpt", train_url=bucket / "out",
        pretrained=tmp_path / "cache" / "ckpt" / "w.ckpt",
    )  # fmt: skip

    @modelarts.on_modelarts
    def command(cfg):
        assert Path(cfg.data_dir, "annotations", "train.json").read_text() == "{}"
        assert Path(cfg.data_dir) == tmp_path / "cache" / "data" / "coco"
        assert Path(cfg.pretrained).read_text() == "weights"
        run = Path(cfg.ckpt_path, "run")
        run.mkdir(parents=True)
        (run / "a.ckpt").write_text("1")
        modelarts.upload_results(cfg)
        assert (bucket / "out" / "run" / "a.ckpt").read_text() == "1"
        (run / "b.ckpt").write_text("2")
        (run / ".c.ckpt").write_text("in the making")
        return 7

    assert command(cfg) == 7
    assert sorted(path.name for path in (bucket / "out").rglob("*") if path.is_file()) == ["a.ckpt", "b.ckpt"]


def test_a_job_that_fails_still_delivers(bucket, tmp_path):
    cfg = config(tmp_path, train_url=bucket / "out")

    @modelarts.on_modelarts
    def command(cfg):
        Path(cfg.log_path, "log.txt").parent.mkdir(parents=True, exist_ok=True)
        Path(cfg.log_path, "log.txt").write_text("why")
        raise UserError("broken")

    with pytest.raises(UserError, match="broken"):
        command(cfg)
    assert (bucket / "out" / "log.txt").read_text() == "why"


def test_a_bucket_that_fails_does_not_hide_the_error(bucket, tmp_path, monkeypatch, caplog):
    (bucket / "out").write_text("a file where the folder should be")
    cfg = config(tmp_path, train_url=bucket / "out")
    Path(cfg.output_path).mkdir(parents=True)
    (Path(cfg.output_path) / "a").write_text("1")
    modelarts.try_upload(cfg)
    assert "upload failed" in caplog.text

    def command(cfg):
        raise UserError("broken")

    with pytest.raises(UserError, match="broken"):
        modelarts.on_modelarts(command)(cfg)
    with pytest.raises(UserError, match="cannot be copied"):
        modelarts.on_modelarts(lambda cfg: 0)(cfg)


def test_elsewhere_nothing_changes(tmp_path):
    seen = []
    command = modelarts.on_modelarts(lambda cfg: seen.append(cfg) or 0)
    cfg = config(tmp_path, enable_modelarts="False", data_url="/nowhere")
    assert command(cfg) == 0 and seen == [cfg]


def test_the_old_names_of_the_switch(tmp_path):
    for name in ("is_modelarts", "run_online"):
        assert load_config(ROOT / "configs" / "yolov3.yaml", [f"--{name}=True"]).enable_modelarts


def test_what_is_unchanged_is_delivered_once(bucket, tmp_path, monkeypatch):
    cfg = config(tmp_path, train_url=bucket / "out")
    output = Path(cfg.output_path)
    output.mkdir(parents=True)
    (output / "a").write_text("1")
    stored = []
    monkeypatch.setattr(LocalBucket, "upload", lambda self, path, name: stored.append(name))
    modelarts.upload_results(cfg)
    modelarts.upload_results(cfg)
    (output / "b").write_text("2")
    (output / "a").write_text("another")
    modelarts.upload_results(cfg)
    assert stored == ["a", "a", "b"]


def test_a_run_is_continued_from_the_bucket(bucket, tmp_path):
    (bucket / "out" / "run").mkdir(parents=True)
    (bucket / "out" / "run" / "a.ckpt").write_text("1")
    cfg = modelarts.download_inputs(config(tmp_path, train_url=bucket / "out", resume="auto"))
    assert Path(cfg.ckpt_path, "run", "a.ckpt").exists()
    modelarts.download_inputs(config(tmp_path, train_url=bucket / "none", resume="auto"))


def test_a_single_checkpoint_is_the_start(bucket, tmp_path):
    cfg = modelarts.download_inputs(config(tmp_path, pre_trained_url=bucket / "ckpt" / "w.ckpt"))
    assert Path(cfg.pretrained).read_text() == "weights"


def test_no_data(tmp_path):
    with pytest.raises(UserError, match="there is nothing at /nowhere"):
        modelarts.download_inputs(config(tmp_path, data_url="/nowhere"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--data_path"):
        modelarts.download_inputs(config(tmp_path, data_url=tmp_path, data_path=tmp_path / "file" / "data"))


def make_zip(path, *members):
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, "x")
    return path


def linked():
    member = zipfile.ZipInfo("link")
    member.external_attr = 0o120777 << 16
    return member


@pytest.mark.parametrize(
    ("member", "fragment"),
    [
        ("../out.txt", "outside of its folder"),
        ("a/../../out.txt", "outside of its folder"),
        ("/out.txt", "outside of its folder"),
        ("..\\out.txt", "outside of its folder"),
        ("C:\\out.txt", "outside of its folder"),
        (linked(), "the link 'link'"),
    ],
)
def test_a_dangerous_member_is_refused(tmp_path, member, fragment):
    (tmp_path / "d").mkdir()
    path = make_zip(tmp_path / "d" / "data.zip", "fine.txt", member)
    with pytest.raises(UserError, match="data.zip") as error:
        modelarts.unpack(path)
    assert fragment in str(error.value)
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["data.zip"] and not (tmp_path / "out.txt").exists()


def test_a_damaged_zip_is_named(tmp_path):
    path = make_zip(tmp_path / "data.zip", "a.txt")
    path.write_bytes(path.read_bytes().replace(b"x", b"y", 1))
    with pytest.raises(UserError, match="data.zip cannot be unpacked"):
        modelarts.unpack(path)
    path.write_bytes(b"no zip")
    with pytest.raises(UserError, match="data.zip cannot be unpacked"):
        modelarts.unpack(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.zip"]


def test_a_full_disk_is_seen_before(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "data.zip", "a.txt")
    monkeypatch.setattr(modelarts.shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=0))
    with pytest.raises(UserError, match="0.0 GB free"):
        modelarts.unpack(path)


def test_what_was_unpacked_is_left_alone_until_the_zip_changes(tmp_path):
    path = make_zip(tmp_path / "data.zip", "data/a.txt")
    modelarts.unpack(path)
    (tmp_path / "data" / "a.txt").write_text("mine")
    modelarts.unpack(path)
    assert (tmp_path / "data" / "a.txt").read_text() == "mine"
    make_zip(path, "data/b.txt", "data/c.txt")
    modelarts.unpack(path)
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["b.txt", "c.txt"]


def test_files_of_others_are_not_overwritten(tmp_path):
    path = make_zip(tmp_path / "data.zip", "data/a.txt")
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="--need_modelarts_dataset_unzip=False"):
        modelarts.unpack(path)
    assert not list((tmp_path / "data").iterdir())


@pytest.mark.parametrize("moved", [0, 1])
def test_an_unpacking_that_was_killed_is_done_anew(tmp_path, monkeypatch, moved):
    """Killed while extracting, and between two moves."""
    path = make_zip(tmp_path / "data.zip", "a/1.txt", "b/2.txt")
    replace, calls = Path.replace, []

    def killed(self, target):
        if self.parent.name == ".data.zip.unpacking":
            if len(calls) == moved:
                raise KeyboardInterrupt
            calls.append(target)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        modelarts.unpack(path)
    monkeypatch.undo()
    modelarts.unpack(path)
    names = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert names == [".unpacked.json", "a/1.txt", "b/2.txt", "data.zip"]


def test_several_zip_files(tmp_path):
    for name in ("one", "two"):
        make_zip(tmp_path / f"{name}.zip", f"{name}/x.txt")
    modelarts.unpack_all(tmp_path, "coco")
    assert (tmp_path / "one" / "x.txt").exists() and (tmp_path / "two" / "x.txt").exists()
    assert set(json.loads((tmp_path / ".unpacked.json").read_text())) == {"one.zip", "two.zip"}


def test_the_lock_dies_with_its_owner(tmp_path):
    """A process that is killed while it holds the folder leaves it free."""
    program = (
        "import sys, time; from pathlib import Path; from msdet.runtime.modelarts import locked\n"
        f"with locked(Path({str(tmp_path / 'd')!r})):\n    print('held', flush=True); time.sleep(60)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout.readline() == "held\n"
    handle = os.open(tmp_path / "d", os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    owner.kill()
    owner.wait(timeout=30)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(handle)
    assert not list((tmp_path / "d").iterdir())


class FakeMoxing(types.ModuleType):
    """moxing.file over a local folder."""

    def __init__(self, root):
        super().__init__("moxing")
        self.file, self.root, self.calls = self, root, []

    def _at(self, url):
        return self.root / url.removeprefix("obs://") if url.startswith("obs://") else Path(url)

    def exists(self, url):
        return self._at(url).exists()

    def is_directory(self, url):
        return self._at(url).is_dir()

    def copy(self, source, target):
        self.calls.append(source)
        self._at(target).parent.mkdir(parents=True, exist_ok=True)
        self._at(target).write_bytes(self._at(source).read_bytes())

    def copy_parallel(self, source, target):
        for path in self._at(source).rglob("*"):
            if path.is_file():
                self.copy(path.as_posix(), str(Path(target) / path.relative_to(self._at(source))))


def test_moxing_serves_where_it_is_installed(bucket, tmp_path, monkeypatch):
    moxing = FakeMoxing(bucket)
    monkeypatch.setitem(sys.modules, "moxing", moxing)
    cfg = config(tmp_path, data_url="obs://data", train_url="obs://out/", pretrained="obs://ckpt/w.ckpt")
    for _ in range(2):
        got = modelarts.download_inputs(cfg)
    assert Path(got.data_dir, "train", "0.jpg").exists() and Path(got.pretrained).read_text() == "weights"
    assert Path(got.pretrained).with_suffix(".json").exists()
    assert len(moxing.calls) == 3, "the second process fetches nothing again"
    Path(got.ckpt_path).mkdir(parents=True)
    Path(got.ckpt_path, "a.ckpt").write_text("1")
    modelarts.upload_results(got)
    assert (bucket / "out" / "a.ckpt").read_text() == "1"
    with pytest.raises(UserError, match="obs://none"):
        modelarts.download_inputs(config(tmp_path, data_url="obs://none"))
