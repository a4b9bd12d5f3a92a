"""The valid input, written once per session."""

from pathlib import Path

import mindspore as ms
import pytest

from tests.bad_inputs.workspace import make_workspace


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    ms.set_context(mode=ms.GRAPH_MODE)
    return make_workspace(tmp_path_factory.mktemp("good"))


@pytest.fixture(autouse=True)
def _root(monkeypatch):
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    ms.set_context(mode=ms.GRAPH_MODE)
