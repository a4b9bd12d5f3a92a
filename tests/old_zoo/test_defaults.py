"""The defaults of the old pages: none is left out, and each is the same here or has a reason not to be."""

import os
import re
from pathlib import Path

import pytest

from msdet.compat.aliases import file_aliases
from msdet.compat.old_values import rewrite_value
from msdet.config import load_config
from msdet.config.key import keys_of
from tests.old_zoo.defaults import DEFAULTS, PAGES, Default

pytestmark = pytest.mark.usefixtures("at_root")
ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("train", "eval", "test", "export", "predict", "postprocess")
NAMED = [pytest.param(default, id=f"{default.config}-{default.name}") for default in DEFAULTS]


def key_of(default: Default, cfg):
    keys = keys_of(type(cfg))
    if default.name in keys:
        return keys[default.name]
    if rewritten := rewrite_value(cfg.model, default.name, default.theirs):
        return keys[next(iter(rewritten))]
    return next(
        keys[names[default.name][0]]
        for script in SCRIPTS
        if (names := file_aliases(cfg.model, script)).get(default.name)
    )


@pytest.mark.parametrize("default", NAMED)
def test_a_default_is_theirs_or_has_a_reason(default):
    cfg = load_config(f"configs/{default.config}.yaml")
    key = key_of(default, cfg)
    expected = default.ours if default.reason else default.theirs
    if isinstance(expected, list):
        expected = tuple(expected)
    assert getattr(cfg, key.name) == key.convert(expected)
    if default.reason:
        assert default.ours != default.theirs, "it is the same: no reason is needed"


@pytest.mark.parametrize("config", PAGES)
def test_the_block_of_a_page_pasted_into_a_file_says_the_same_to_every_script(config, tmp_path):
    """With a `base:` in front, which names the model."""
    lines = [f"{default.name}: {default.theirs}" for default in DEFAULTS if default.config == config]
    path = tmp_path / "pasted.yaml"
    path.write_text("\n".join([f"base: {ROOT}/configs/{config}.yaml", *lines]) + "\n")
    found = [load_config(path, [], script) for script in SCRIPTS]
    assert all(cfg == found[0] for cfg in found)
    for default in (default for default in DEFAULTS if default.config == config):
        key = key_of(default, found[0])
        empty = default.theirs in ("", None)
        # What is left empty says nothing, and two names of one key may be left to one of them.
        others = [
            d for d in DEFAULTS if d.config == config and key_of(d, found[0]) == key and d.theirs not in ("", None)
        ]
        if not empty:
            stated = (rewrite_value(found[0].model, default.name, default.theirs) or {}).get(key.name, default.theirs)
            assert getattr(found[0], key.name) == key.convert(stated)
        elif not others and key.type is str:
            assert getattr(found[0], key.name) in ("", key.convert(default.ours if default.reason else ""))


def test_every_default_of_the_pages_is_in_the_table():
    pages = Path(os.environ.get("SEEDS_DIR", ROOT.parent / "shared" / "seeds"))
    if not pages.is_dir():
        pytest.skip(f"{pages} is absent: set SEEDS_DIR to run this test")
    for config, name in PAGES.items():
        text = (pages / name).read_text(encoding="utf-8")
        flags = set(re.findall(r"^\s*--([A-Za-z_]+)(?: [A-Z_]+)?\s{2,}\S", text, re.M))
        flags |= set(re.findall(r"^\s*--([A-Za-z_]+) [A-Z_]+\s*$", text, re.M))
        flags |= set(re.findall(r'^\s*"?([a-z_A-Z]+)"?: (?:"[^"]*"|[\w.\[\], /]+)\s*(?:#.*)?$', text, re.M))
        # Of logs.
        flags -= {"epoch", "mAP"}
        told = {default.name for default in DEFAULTS if default.config == config}
        assert flags and flags <= told, f"{name}: {sorted(flags - told)}"
