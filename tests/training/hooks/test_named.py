"""User hooks named in a configuration."""

import pytest

from msdet.config import load_config
from msdet.errors import UsageError
from msdet.training.hooks.named import named_hooks
from msdet.training.loop import Hook

MODULE = """
from msdet.training.loop import Hook

class Counts(Hook):
    steps = 0

    def after_step(self, trainer):
        Counts.steps += 1

class Needs(Hook):
    def __init__(self, folder):
        pass

class Other:
    pass
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A user module in the working folder, with a unique name."""
    name = f"hooks_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    return name


def test_hooks_are_created_in_order(module):
    first, second = named_hooks([f"{module}.Counts", "msdet.training.loop.Hook"], "--hooks")
    assert type(first).__name__ == "Counts" and isinstance(first, Hook) and type(second) is Hook


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Counts", "names no module"),
        ("no_such_module.Counts", "no module 'no_such_module'"),
        ("MODULE.Missing", "is not a subclass"),
        ("MODULE.Other", "is not a subclass"),
        ("MODULE.Needs", "without arguments"),
    ],
)
def test_invalid_hooks_are_refused(module, name, message):
    with pytest.raises(UsageError, match=message) as raised:
        named_hooks([name.replace("MODULE", module)], "my.yaml:3: hooks")
    assert "my.yaml:3: hooks" in str(raised.value)


def test_a_missing_import_inside_the_module_keeps_its_traceback(module, tmp_path):
    (tmp_path / f"{module}.py").write_text("import no_such_package_at_all\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_package_at_all"):
        named_hooks([f"{module}.Counts"], "--hooks")


def test_the_key_takes_a_list(at_root):
    cfg = load_config("configs/yolov3.yaml", ["--hooks=a.B,c.d.E"])
    assert cfg.hooks == ("a.B", "c.d.E")
