"""The folder in which the launcher is called."""

from __future__ import annotations

import pytest

from msdet.tools.launcher import arguments as launch_table
from tests.tools.launcher.old_zoo_commands import MODELS, rank_table


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of the caller, with rank tables under the documented names; configs/ is next to it."""
    configs = tmp_path / "configs"
    configs.mkdir()
    for model in MODELS:
        (configs / f"{model}.yaml").write_text(f"model: {model}\n")
    monkeypatch.setattr(launch_table, "CONFIGS", configs)
    here = tmp_path / "here"
    here.mkdir()
    for name in ("rank_table_8p.json", "hccl_rank_tabel_8p.json"):
        rank_table(here / name, 8)
    monkeypatch.setenv("LAUNCH_FROM", str(here))
    return here
