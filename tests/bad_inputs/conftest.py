"""The good world, made once."""

from pathlib import Path

import mindspore as ms
import pytest

from tests.bad_inputs.world import make_world


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    ms.set_context(mode=ms.GRAPH_MODE)
    return make_world(tmp_path_factory.mktemp("good"))


@pytest.fixture(autouse=True)
def _root(monkeypatch):
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    ms.set_context(mode=ms.GRAPH_MODE)
