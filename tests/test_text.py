"""Names that UTF-8 cannot write come back from what is written."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msdet.config import load_config
from msdet.files import read_checksummed, read_json, write_checksummed, write_csv, write_json
from msdet.text import json_text, printable, readable_path, writable_path

NAME = os.fsdecode(b"caf\xe9")


@given(st.binary(max_size=12).map(os.fsdecode))
def test_json_gives_any_name_back(name):
    text = json_text({"file": [name, 1], name: None})
    text.encode("utf-8")
    assert json.loads(text) == {"file": [name, 1], name: None}
    assert os.fsencode(json.loads(text)["file"][0]) == os.fsencode(name)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_utf_8_can_write_stays_as_it_is(text):
    assert printable(text) == text
    assert json_text(text) == json.dumps(text, ensure_ascii=False)


def test_printable():
    assert printable(NAME + "é") == "caf\\udce9é"


def test_files_of_ours(tmp_path):
    write_json(tmp_path / "a.json", {"name": NAME})
    assert read_json(tmp_path / "a.json") == {"name": NAME}
    write_checksummed(tmp_path / "b.json", {"class_names": [NAME, "ä"]})
    assert read_checksummed(tmp_path / "b.json", require_checksum=True) == {"class_names": [NAME, "ä"]}
    write_csv(tmp_path / "c.csv", [[NAME, 1], ["ä", ""]])
    assert (tmp_path / "c.csv").read_text(encoding="utf-8").splitlines() == ["caf\\udce9,1", "ä,"]


def test_configurations(tmp_path):
    cfg = load_config("configs/yolov3.yaml", [f"--data_dir=/data/{NAME}", f"--class_names={NAME},b", "--num_classes=2"])
    cfg.save(tmp_path / "config.yaml")
    again = load_config(tmp_path / "config.yaml")
    assert (again.data_dir, again.class_names) == (f"/data/{NAME}", (NAME, "b"))


@pytest.mark.parametrize("copy", [False, True])
def test_a_library_reads_a_file_whatever_its_name(tmp_path, copy):
    path = tmp_path / NAME / f"{NAME}.bin"
    path.parent.mkdir()
    path.write_bytes(b"content")
    with readable_path(path, copy=copy) as name:
        with open(name.encode("utf-8"), "rb") as file:  # noqa: PTH123 (as a library of bytes would)
            assert file.read() == b"content"
        assert name.endswith(".bin") and os.path.islink(name) != copy  # noqa: PTH114
    assert not os.path.lexists(name) and path.is_file()
    with readable_path(tmp_path / "plain.bin") as name:
        assert name == str(tmp_path / "plain.bin")
    with readable_path(tmp_path / NAME / "absent.bin") as name:
        name.encode("utf-8")


def test_a_library_writes_a_file_whatever_its_name(tmp_path):
    (tmp_path / NAME).mkdir()
    path = tmp_path / NAME / "out.bin"
    with writable_path(path) as name, open(name.encode("utf-8"), "wb") as file:  # noqa: PTH123
        file.write(b"content")
    assert path.read_bytes() == b"content" and not os.path.lexists(name)
    with pytest.raises(RuntimeError), writable_path(tmp_path / NAME / "other.bin") as name:
        open(name, "wb").close()  # noqa: PTH123
        raise RuntimeError
    assert [found.name for found in (tmp_path / NAME).iterdir()] == ["out.bin"]
    with writable_path(tmp_path / "a b.bin", lambda text: " " not in text) as name:
        assert " " not in name
