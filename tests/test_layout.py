"""Which part of the package may import which: the table of arrows. Imports inside functions and for typing count."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from msdet.config.model_table import model_table

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "msdet"
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
# A part may import those of the lines above its own.
LAYERS = [
    ("errors", "text", "missing_package"),
    ("files", "folder_lock"),
    ("layers",),
    ("ops", "quantization", "compat"),
    ("config",),
    ("data",),
    ("checkpoints",),
    ("runtime",),
    ("models",),
    ("session",),
    ("importers", "export", "evaluation"),
    ("training", "inference"),
    ("tools",),
    ("cli",),
    ("__main__",),
]
HEIGHT = {part: height for height, layer in enumerate(LAYERS) for part in layer}
# The package itself sets what must be set before anything is imported.
SET_UP = "msdet"
# What models share, and the only model that another one builds on.
SHARED_BY_MODELS = {"recipe", "weight_names", "yolo"}
BACKBONES = {"yolov3_quant": {"darknet53"}, "yolov4": {"darknet53"}, "yolo": {"darknet53"}}


def imports_of(path: Path) -> Iterator[str]:
    """Dotted names of our own modules that a file imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else node.module for name in whole]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "msdet")


GRAPH = {name: sorted(set(imports_of(path))) for name, path in MODULES.items()}


def part_of(name: str) -> str:
    return name.split(".")[1] if "." in name else SET_UP


def test_every_part_has_a_place():
    found = {part_of(name) for name in MODULES} - {SET_UP}
    assert found == set(HEIGHT), "put a new part into LAYERS, and take out what has gone"


@pytest.mark.parametrize("name", [name for name in MODULES if name != SET_UP])
def test_arrows_point_down(name):
    own = part_of(name)
    for target in GRAPH[name]:
        other = part_of(target)
        if other not in (own, SET_UP):
            assert HEIGHT[other] < HEIGHT[own], f"{name} imports {target}"


def test_there_is_no_circle():
    """Removes modules whose imports are all removed already; what stays, goes in circles."""
    left = {name: set(targets) - {name} for name, targets in GRAPH.items()}
    while free := {name for name, targets in left.items() if not targets & left.keys()}:
        left = {name: targets for name, targets in left.items() if name not in free}
    assert not left, {name: sorted(targets & left.keys()) for name, targets in left.items()}


def test_a_model_knows_no_other_but_its_backbone():
    models = {package.rpartition(".")[2] for package in model_table().values()} | {"yolo"}
    known = defaultdict(set)
    for name, targets in GRAPH.items():
        parts = name.split(".")
        if parts[1:2] == ["models"] and parts[2:3] and parts[2] in models:
            others = {target.split(".")[2] for target in targets if target.startswith("msdet.models.")}
            known[parts[2]] |= others - {parts[2]} - SHARED_BY_MODELS
    assert known.keys() == models
    for model, others in known.items():
        assert others <= BACKBONES.get(model, set()), f"{model} imports {sorted(others)}"
