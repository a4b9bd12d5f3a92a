"""Writes result files for tests."""

from __future__ import annotations


def write_bins(folder, **arrays):
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        array.tofile(folder / f"{name}.bin")
    return folder
