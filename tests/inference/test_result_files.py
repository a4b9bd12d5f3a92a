"""Names and content of the result files of an external program."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from msdet.errors import UserError
from msdet.inference.predictors import detection_result_names
from msdet.inference.result_files import ResultFiles, read_bins, result_names
from tests.inference.result_bins import write_bins


def found(folder, names, index, number):
    return [path.name for path in ResultFiles(folder, names).paths_of(index, number, f"{names[index]}.jpg")]


def test_result_files_are_found_by_name(tmp_path):
    one = np.zeros(4, np.float32)
    names = ["cat_1", "cat_2", "cat_3", "cat_7"]
    write_bins(tmp_path, cat_1_0=one, cat_2_0=one, cat_3_0=one, cat_3_1=one)
    assert found(tmp_path, names, 2, 2) == ["cat_3_0.bin", "cat_3_1.bin"]
    # cat_7 bears number 3, but what ends in _3 is another picture's.
    with pytest.raises(UserError, match=r"has no cat_7_0\.bin, the result of cat_7\.jpg"):
        found(tmp_path, names, 3, 3)
    (tmp_path / "cat_3_0.bin").unlink()
    with pytest.raises(UserError, match=r"has no cat_3_0\.bin"):
        found(tmp_path, names, 2, 2)
    with pytest.raises(UserError, match=r"NAME_0\.bin"):
        ResultFiles(tmp_path / "none", names)


def test_result_files_are_found_by_number(tmp_path):
    one = np.zeros(4, np.float32)
    write_bins(tmp_path, Net_bs_1_2_0=one, Net_bs_1_2_1=one, Net_bs_1_4_0=one, other_4_0=one)
    names = ["dog", "cow", "cat"]
    assert found(tmp_path, names, 2, 2) == ["Net_bs_1_2_0.bin", "Net_bs_1_2_1.bin"]
    with pytest.raises(UserError, match=r"no result files of cow\.jpg: neither cow_0\.bin nor, .*, \.\.\._1_0\.bin"):
        found(tmp_path, names, 1, 1)
    with pytest.raises(UserError, match=r"Net_bs_1_4_0\.bin and other_4_0\.bin|other_4_0\.bin and Net_bs_1_4_0\.bin"):
        found(tmp_path, names, 0, 4)


def test_images_of_one_name_have_files_of_their_own():
    root = Path("/data/val")
    assert result_names(["a/1.jpg", "b/1.png", "1.bmp", "b/2.jpg", "/else/1.jpg"], root) == [
        "a_1", "b_1", "1", "2", "else_1",
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"/data/val: a/1\.jpg and a/1\.png would share a_1\.bin"):
        result_names(["a/1.jpg", "a/1.png"], root)
    samples = [SimpleNamespace(image_path=root / name) for name in ("a/1.jpg", "b/1.png", "b/2.png")]
    assert detection_result_names(SimpleNamespace(image_dir=root, samples=samples)) == ["a_1", "b_1", "2"]


def test_files_become_arrays_by_size(tmp_path):
    boxes, scores = np.arange(8, dtype=np.float32), np.arange(6, dtype=np.float32)
    write_bins(tmp_path, a_0=scores, a_1=boxes, b_0=boxes.astype(np.float16), b_1=scores.astype(np.float16))
    shapes = [(1, 2, 4), (1, 2, 3)]
    for name in "ab":
        got = read_bins([tmp_path / f"{name}_0.bin", tmp_path / f"{name}_1.bin"], shapes)
        np.testing.assert_array_equal(got[0], boxes.reshape(1, 2, 4))
        np.testing.assert_array_equal(got[1], scores.reshape(1, 2, 3))
    assert read_bins([tmp_path / "a_0.bin"], shapes) is None
    assert read_bins([tmp_path / "a_0.bin", tmp_path / "b_0.bin"], shapes) is None
