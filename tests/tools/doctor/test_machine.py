"""Queries of the doctor to this machine."""

import sys

import pytest

from msdet.tools.doctor.machine import Check, Machine


def test_text_of_a_check():
    assert str(Check("numpy", "ok", "1.26.4")) == "ok    numpy: 1.26.4"
    assert str(Check("GPU", "FAIL", "none", "buy one")) == "FAIL  GPU: none  ->  buy one"


def test_versions():
    machine = Machine()
    assert machine.version("pytest") == pytest.__version__
    with pytest.raises(ModuleNotFoundError):
        machine.version("no_such_module")


@pytest.mark.parametrize(
    ("command", "code", "output"),
    [
        ([sys.executable, "-c", "import sys; print(1); sys.stderr.write('2'); sys.exit(3)"], 3, "1\n2"),
        ([sys.executable, "-c", "import importlib.util as u; print(bool(u.find_spec('msdet')))"], 0, "True\n"),
        ([sys.executable, "-c", "import time; time.sleep(9)"], -1, "timed out after 0 s"),
        (["no-such-program"], -1, "No such file"),
    ],
)
def test_commands(command, code, output):
    found = Machine().run(command, 0.4 if "sleep" in command[-1] else 30)
    assert found[0] == code and output in found[1]


def test_resources():
    machine = Machine()
    assert machine.cores() >= 1 and machine.memory_gb() > 0 and machine.disk_gb() > 0
