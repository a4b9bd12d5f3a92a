"""Copies of batches and checks for running workers, for the tests of the loader."""

import multiprocessing

import numpy as np


def copies(batches):
    """Copies of everything in the batches."""
    return [
        (
            batch.images.copy(),
            batch.boxes,
            batch.labels,
            batch.image_ids,
            batch.geometry,
            batch.size,
            batch.indices,
            batch.epoch,
            batch.number,
        )
        for batch in batches
    ]


def assert_equal_batches(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for a, b in zip(one, other, strict=True):
            if isinstance(a, np.ndarray):
                np.testing.assert_array_equal(a, b)
                assert a.dtype == b.dtype
            else:
                assert a == b


def no_workers_running():
    return not [child for child in multiprocessing.active_children() if child.name == "data worker"]
