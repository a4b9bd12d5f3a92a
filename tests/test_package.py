"""What importing the package does and does not do."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import msdet

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src" / "msdet").rglob("*.py"))
ENTRIES = [
    path
    for name in ("train", "eval", "export", "predict", "test", "postprocess")
    if (path := ROOT / f"{name}.py").exists()
]
AVX512 = "processor\t: 0\nflags\t\t: fpu sse4_2 avx avx2 avx512f avx512_vnni\n\nprocessor\t: 1\n"
AVX2 = "processor\t: 0\nflags\t\t: fpu sse4_2 avx avx2\n"

# Module -> its name in requirements.txt, where that is another; and what comes with a platform or is asked for by name.
DISTRIBUTIONS = {"yaml": "pyyaml", "cv2": "opencv-python-headless", "PIL": "pillow"}
OF_PLATFORMS = {"mindspore_lite", "ais_bench", "moxing", "boto3", "botocore"}
# These import it when they are used.
WITH_ITS_HELP = ("write.py", "random_crop.py")
WITHOUT_MINDSPORE = {
    "__init__",
    "errors",
    "text",
    "files",
    "folder_lock",
    "missing_package",
    "compat",
    "config",
    "ops",
    "data",
}


def part_of(path: Path) -> str:
    return path.relative_to(ROOT / "src" / "msdet").parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """Dotted names of all modules a file imports, also inside functions, but not those for the type checker only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test).endswith("TYPE_CHECKING")
        for statement in branch.body
        for node in ast.walk(statement)
    }
    names = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names.add(node.module)
    return names


@pytest.mark.parametrize(
    "path",
    [p for p in SOURCES if part_of(p) in WITHOUT_MINDSPORE and p.name not in WITH_ITS_HELP],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_mindspore_stays_out_of_configuration_and_data(path):
    assert not {name for name in imports_of(path) if name.split(".")[0] == "mindspore"}


def catches_all(node: ast.AST) -> bool:
    return node is None or ast.unparse(node) in ("Exception", "BaseException")


def test_no_error_is_passed_over_in_silence():
    """Whoever catches every exception raises it again, hands it on or tells of it."""
    silent = []
    for path in [*SOURCES, *ENTRIES, *(ROOT / "benchmarks").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler) and catches_all(node.type):
                used = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
                raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
                if not (raises or node.name in used or "traceback" in used):
                    silent.append(f"{path}:{node.lineno}")
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
                silent += [f"{path}:{node.lineno}" for kind in node.args if catches_all(kind)]
    assert not silent


def test_importing_the_package_and_its_configuration_loads_no_framework():
    program = (
        "import sys, msdet.config, msdet.models.recipe, msdet.errors\n"
        "print(sorted({'mindspore', 'numpy', 'cv2', 'numba', 'pydantic'} & set(sys.modules)))"
    )
    assert run(program) == "[]"


def test_the_data_package_loads_no_mindspore():
    modules = [
        ".".join(path.relative_to(ROOT / "src").with_suffix("").parts) for path in SOURCES if part_of(path) == "data"
    ]
    loading = f"import sys, importlib; [importlib.import_module(name) for name in {modules}]"
    assert run(f"{loading}; print('mindspore' in sys.modules)") == "False"


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: path.name)
def test_entry_scripts_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 40


def run(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**{k: v for k, v in os.environ.items() if k != msdet.ONEDNN_VARIABLE}, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("system", "machine", "cpuinfo", "expected"),
    [
        ("Linux", "x86_64", AVX512, True),
        ("Linux", "AMD64", AVX512, True),
        ("Linux", "x86_64", AVX2, False),
        ("Linux", "x86_64", "", False),
        ("Linux", "x86_64", "model name\t: avx512f\n" + AVX2, False),
        ("Linux", "aarch64", "Features\t: fp asimd sve\n", False),
        ("Linux", "aarch64", AVX512, False),
        ("Darwin", "x86_64", AVX512, False),
    ],
)
def test_onednn_is_held_back_only_on_x86_with_avx512(system, machine, cpuinfo, expected):
    assert msdet.needs_avx2_cap(system, machine, cpuinfo) is expected


def test_the_setting_follows_this_machine_and_changes_nothing_else():
    program = (
        "import os; before = dict(os.environ); import msdet\n"
        "print({k: v for k, v in os.environ.items() if before.get(k) != v}, set(before) - set(os.environ))"
    )
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        cpuinfo = ""
    needed = msdet.needs_avx2_cap(os.uname().sysname, os.uname().machine, cpuinfo)
    assert run(program) == f"{ {msdet.ONEDNN_VARIABLE: 'AVX2'} if needed else {} } set()".replace("{ ", "{").strip()


def test_a_value_of_the_user_wins():
    assert run("import os, msdet; print(os.environ[msdet.ONEDNN_VARIABLE])", ONEDNN_MAX_CPU_ISA="ALL") == "ALL"


def test_the_setting_is_made_where_it_is_needed(monkeypatch):
    monkeypatch.delenv(msdet.ONEDNN_VARIABLE, raising=False)
    monkeypatch.setattr(msdet.platform, "system", lambda: "Linux")
    monkeypatch.setattr(msdet.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(msdet.Path, "read_text", lambda *_, **__: AVX512)
    msdet._cap_onednn()
    assert os.environ[msdet.ONEDNN_VARIABLE] == "AVX2"
    monkeypatch.setenv(msdet.ONEDNN_VARIABLE, "SSE41")
    msdet._cap_onednn()
    assert os.environ[msdet.ONEDNN_VARIABLE] == "SSE41"


def test_every_package_that_is_imported_is_required():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    required = {line.split("==")[0].lower() for line in lines if "==" in line}
    modules = {name.split(".")[0] for path in [*SOURCES, *ENTRIES] for name in imports_of(path)}
    others = modules - set(sys.stdlib_module_names) - OF_PLATFORMS - {"msdet"}
    assert {DISTRIBUTIONS.get(name, name.lower()) for name in others} <= required


def test_the_pages_name_every_part():
    folders = {path.name for path in (ROOT / "src" / "msdet").iterdir() if (path / "__init__.py").exists()}
    for page in ("docs/design/layers.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert not [folder for folder in sorted(folders) if f"`{folder}/" not in text], page
