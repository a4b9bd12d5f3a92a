"""Fixtures of the loader tests."""

import gc
import os

import pytest

from msdet.data.formats.coco.read import read_coco
from tests.data.loading.batches import no_workers_running


@pytest.fixture(scope="module")
def dataset(many):
    return read_coco(many.ann_file, many.image_dir)


@pytest.fixture(autouse=True)
def no_leaks():
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    yield
    gc.collect()
    assert no_workers_running()
    # The resource tracker of multiprocessing keeps one descriptor open.
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # noqa: PTH208
