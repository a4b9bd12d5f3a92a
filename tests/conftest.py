"""Fixtures shared by all tests, and the `--slow` option.

Two folders outside the repository deepen the tests where they exist: real images (`DATA_DIR`) and outputs of
independent implementations (`PARITY_DIR`). Tests that need them are skipped with a reason elsewhere.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

from msdet.text import is_encodable, printable
from tests.in_process import own_log

# How long an example takes says more about the machine than about the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parents[1]


# On a machine with other devices, too, it is the CPU that is tested: in commands, and in this process.
os.environ["MSDET_DEVICE"] = "CPU"
# Processes that tests start find the package of this checkout.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))


def pytest_configure(config):
    if os.environ.get("ASCEND_HOME_PATH"):
        import mindspore

        mindspore.set_device("CPU")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="takes minutes: run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """What a test has printed or compared may hold names that are no UTF-8, which workers cannot send."""
    report = yield
    report.sections = [(name, printable(text)) for name, text in report.sections]
    if report.longrepr is not None and not is_encodable(str(report.longrepr)):
        report.longrepr = printable(str(report.longrepr))
    return report


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """No test writes to the log of another."""
    with own_log():
        yield


@pytest.fixture(autouse=True)
def _own_mode() -> None:
    """Each test begins in the mode that MindSpore begins in, whatever the one before has set."""
    if mindspore := sys.modules.get("mindspore"):
        mindspore.set_context(mode=mindspore.PYNATIVE_MODE)


def _outside_folder(variable: str, default: Path) -> Path:
    folder = Path(os.environ.get(variable, default))
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: set {variable} to run this test")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with coco_mini, voc_mini, imagenet_mini and demo_images."""
    return _outside_folder("DATA_DIR", ROOT.parent / "shared" / "data")


@pytest.fixture(scope="session")
def parity_dir() -> Path:
    """Folder with outputs of independent implementations for weights drawn from seeds."""
    return _outside_folder("PARITY_DIR", ROOT.parent / "shared" / "parity")


@pytest.fixture(scope="session")
def parity(parity_dir: Path) -> ModuleType:
    """The module there that makes weight files and inputs from those seeds."""
    spec = importlib.util.spec_from_file_location("parity", parity_dir / "parity.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Folder of values of our own, committed, that never change by accident."""
    return ROOT / "tests" / "golden"


@pytest.fixture
def graph_mode() -> None:
    """Cells are compiled."""
    import mindspore as ms

    ms.set_context(mode=ms.GRAPH_MODE)


@pytest.fixture
def uncompiled() -> None:
    """Cells run as they are written: what is called once takes longer to compile than to run."""
    import mindspore as ms

    ms.set_context(mode=ms.PYNATIVE_MODE)


@pytest.fixture
def at_root(monkeypatch) -> None:
    """The working folder is the repository's, whose configurations are named from there."""
    monkeypatch.chdir(ROOT)


@pytest.fixture
def check_exports(tmp_path: Path) -> Callable[..., None]:
    """Function that exports a cell and runs both files on its inputs (numpy): every output of the MINDIR must equal the
    cell's, and `compare(theirs, ours)` is called with each of the ONNX file's."""
    import mindspore as ms
    import numpy as np
    import onnxruntime

    def check(cell: ms.nn.Cell, inputs: Sequence[np.ndarray], compare: Callable[..., object]) -> None:
        tensors = [ms.Tensor(array) for array in inputs]

        def run(cell: ms.nn.Cell) -> list[np.ndarray]:
            outputs = cell(*tensors)
            return [output.asnumpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]

        expected = run(cell)
        ms.export(cell, *tensors, file_name=str(tmp_path / "cell"), file_format="MINDIR")
        for ours, theirs in zip(expected, run(ms.nn.GraphCell(ms.load(str(tmp_path / "cell.mindir")))), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        ms.onnx.export(cell, *tensors, file_name=str(tmp_path / "cell"))
        session = onnxruntime.InferenceSession(str(tmp_path / "cell.onnx"), providers=["CPUExecutionProvider"])
        named = {node.name: array for node, array in zip(session.get_inputs(), inputs, strict=True)}
        for ours, theirs in zip(expected, session.run(None, named), strict=True):
            compare(theirs, ours)

    return check
