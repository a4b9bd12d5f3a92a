"""Atomic writing with concurrent writers, and folder locks."""

import os
import threading
from pathlib import Path

import pytest

from msdet.checkpoints.state import _TEMPORARY
from msdet.files import atomic_path, unique_number, write_json

ROOT = Path(__file__).resolve().parents[1]


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    """Threads of one process, or processes of one number on two machines."""
    begun, written = threading.Barrier(8), []

    def write(content):
        with atomic_path(tmp_path / "a.json") as temporary:
            begun.wait()
            temporary.write_text(content)
            begun.wait()
            assert temporary.read_text() == content
        written.append(content)

    threads = [threading.Thread(target=write, args=(str(i) * 1000,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 8 and (tmp_path / "a.json").read_text() in written
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("name", ["yolov3-1_4.ckpt", "yolov3-1_4.state.json", "yolov3-best.ckpt"])
def test_the_temporary_name_is_hidden_keeps_the_suffix_and_is_found_by_the_sweep(tmp_path, name):
    with atomic_path(tmp_path / name) as temporary:
        temporary.write_text("")
        assert temporary.name.startswith(f".{Path(name).stem}.") and temporary.suffix == Path(name).suffix
        assert _TEMPORARY.fullmatch(temporary.name)


def test_no_two_numbers_are_alike():
    assert len({unique_number() for _ in range(1000)}) == 1000


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_follow_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_json(tmp_path / "a.json", {})
        (tmp_path / "b.txt").touch(0o400)
        with atomic_path(tmp_path / "b.txt") as temporary:
            temporary.touch(0o400)  # as a library may
    finally:
        os.umask(before)
    for name in ("a.json", "b.txt"):
        assert (tmp_path / name).stat().st_mode & 0o777 == mode
