"""The command lines of the old pages: none is left out, and each is understood here. What runs is in test_runs.py."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.old_zoo.commands import LINES, here

ROOT = Path(__file__).resolve().parents[2]
NAMED = [pytest.param(line, id=f"{line.page.removesuffix('.md')}-{line.theirs[:60]}") for line in LINES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the lines are typed: rank tables, which are read, lie there."""
    folder = tmp_path_factory.mktemp("typed")
    devices = ",".join(f'{{"device_id": "{i}", "device_ip": "192.168.1.{i}", "rank_id": "{i}"}}' for i in range(8))
    table = f'{{"version": "1.0", "server_count": "1", "server_list": [{{"server_id": "a", "device": [{devices}]}}]}}'
    for name in ("rank_table_8p.json", "hccl_rank_tabel_8p.json"):
        (folder / name).write_text(table)
    return folder


@pytest.mark.parametrize("line", NAMED)
def test_a_line_is_understood(line, folder):
    """Scripts print what they would start, and Python the configuration: both know every word of it."""
    words = shlex.split(here(line))
    if words[0] == "msdet":
        pytest.skip("a tool, with tests of its own: tests/tools/test_hccl_tools.py")
    words[1] = str(ROOT / words[1])
    if words[0] == "python":
        words[0] = sys.executable
        words = [word.replace("configs/", f"{ROOT}/configs/") for word in words]
        words.append("--print_config")
    else:
        words.append("--dry_run")
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert ("model: " if words[-1] == "--print_config" else ".py --config=") in done.stdout


def test_every_line_of_the_pages_is_in_the_table():
    pages = Path(os.environ.get("SEEDS_DIR", ROOT.parent / "shared" / "seeds"))
    if not pages.is_dir():
        pytest.skip(f"{pages} is absent: set SEEDS_DIR to run this test")
    for page in sorted({line.page for line in LINES}):
        text = (pages / page).read_text(encoding="utf-8").replace("\\\n", " ")
        found = re.findall(r"^[ #]*((?:python|bash|sh) \S+(?:\.py|\.sh).*)$", text, re.M)
        typed = {" ".join(re.sub(r"> log.txt 2>&1 &", "", line).split()) for line in found}
        told = {line.theirs for line in LINES if line.page == page}
        assert typed == told, (sorted(typed - told), sorted(told - typed))
