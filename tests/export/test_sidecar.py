"""Sidecars: written with the checksum, verified when read."""

import pytest

from msdet.errors import UserError
from msdet.export.sidecar import read_sidecar, sidecar_path, write_sidecar
from msdet.export.spec import ExportSpec

SPEC = ExportSpec((64, 64), 1, True, True)
CONTENT = {"form": SPEC.to_dict(), "config": {"model": "yolov3"}}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"graph")
    write_sidecar(path, CONTENT)
    return path


def test_it_reads_back(file):
    content, spec = read_sidecar(file)
    assert spec == SPEC and content["config"] == {"model": "yolov3"}


def test_another_file_is_refused(file):
    file.write_bytes(b"Graph")
    with pytest.raises(UserError, match="sha256 differs"):
        read_sidecar(file)


def test_an_om_has_the_sidecar_of_its_source(file):
    om = file.with_suffix(".om")
    om.write_bytes(b"anything")
    assert read_sidecar(om)[1] == SPEC


def test_what_is_missing(file):
    sidecar_path(file).write_text('{"form": {}}')
    with pytest.raises(UserError, match=r"net\.onnx\.json is not a sidecar"):
        read_sidecar(file)
    sidecar_path(file).unlink()
    with pytest.raises(UserError, match=r"net\.onnx\.json is missing"):
        read_sidecar(file)
    file.unlink()
    with pytest.raises(UserError, match=r"net\.onnx does not exist"):
        read_sidecar(file)
