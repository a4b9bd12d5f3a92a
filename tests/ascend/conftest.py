"""Fixtures: the stubs, built once for all workers, and cached probes."""

import functools
import os
from collections.abc import Callable

import pytest

from tests.ascend.cases import Case
from tests.ascend.probe import Probe, run_probe
from tests.ascend.stubs.build import Stubs, build_once, unsupported_reason


@pytest.fixture(scope="session")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Stubs:
    reason = unsupported_reason()
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        folder = folder.parent
    return build_once(folder / "cann_stubs")


@pytest.fixture(scope="session")
def probed(stubs: Stubs) -> Callable[[Case, str], Probe]:
    """Function: case and chip -> what MindSpore decided about it; each combination runs once."""
    return functools.cache(lambda case, chip: run_probe(stubs, case, chip))
