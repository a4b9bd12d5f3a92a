"""The compiled reader of result files against the one that goes record by record."""

import json

import numpy as np
import pytest

import msdet.evaluation.coco.result_rows as module
from msdet.errors import UserError
from msdet.evaluation.coco.result_rows import read_rows
from msdet.evaluation.coco.score import detection_rows, file_rows
from msdet.evaluation.coco.truth import read_ground_truth
from msdet.evaluation.detections import iter_detections

RECORD = {"image_id": "b}, {", "category_id": 7, "bbox": [0.1, 2, 3.25, 4e1], "score": 0.3}


@pytest.fixture
def truth(tmp_path):
    path = tmp_path / "annotations.json"
    images = [{"id": "a"}, {"id": "b}, {"}, {"id": 5}, {"id": 6}]
    categories = [{"id": number, "name": str(number)} for number in (7, 8, 9)]
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": []}))
    return read_ground_truth(path, image_ids=["a", "b}, {", 5], category_ids=[7, 8])


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("piece", [400, 1 << 24])
def test_equal_to_reading_record_by_record(tmp_path, monkeypatch, truth, piece, indent):
    monkeypatch.setattr(module, "_PIECE", piece)
    path = tmp_path / "found.json"
    rng = np.random.default_rng(0)
    records = [
        {
            "image_id": ["a", 5, 6][n % 3],
            "category_id": [7, 8, 9][n // 3 % 3],
            "bbox": rng.uniform(0, 99, 4).tolist(),
            "score": float(rng.random()),
        }
        for n in range(30)
    ]
    path.write_text(" \n" + json.dumps(records, indent=indent) + "\n ")
    rows = read_rows(path, truth)
    # two of three images and of three categories are scored
    assert len(rows) == 14
    np.testing.assert_array_equal(rows, detection_rows(iter_detections(path), truth, "found"))
    np.testing.assert_array_equal(file_rows(path, truth), rows)


def test_ids_with_braces_and_other_keys(tmp_path, monkeypatch, truth):
    path = tmp_path / "found.json"
    path.write_text(json.dumps([RECORD | {"segmentation": {"counts": "1"}}, RECORD]))
    assert read_rows(path, truth)[:, 0].tolist() == [3, 3]
    # A piece that ends inside such a text cannot be decoded, and the other reader takes over.
    monkeypatch.setattr(module, "_PIECE", 20)
    assert read_rows(path, truth) is None
    assert file_rows(path, truth)[:, 0].tolist() == [3, 3]


def test_nothing_found(tmp_path, truth):
    path = tmp_path / "found.json"
    path.write_text(" [ ] ")
    assert read_rows(path, truth).shape == (0, 7)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[",
        "[1]",
        "[,]",
        "[] []",
        "[%s",
        "[%s,",
        "[%s,]",
        "[,%s]",
        "[%s %s]",
        "[%s]]",
        '[{"image_id": 5}]',
        '[{"image_id": true, "category_id": 7, "bbox": [1, 2, 3, 4], "score": 1}]',
        '[{"image_id": 5, "category_id": 7, "bbox": [1, 2, -3, 4], "score": 1}]',
        '[{"image_id": 5, "category_id": 7, "bbox": [1, 2, 3], "score": 1}]',
        '[{"image_id": 5, "category_id": 7, "bbox": [1, 2, 3, 4], "score": NaN}]',
        '[{"image_id": 8, "category_id": 7, "bbox": [1, 2, 3, 4], "score": 1}]',
        '[{"image_id": 5, "category_id": 6, "bbox": [1, 2, 3, 4], "score": 1}]',
    ],
)
@pytest.mark.parametrize("piece", [120, 1 << 24])
def test_whatever_needs_a_word_is_left_to_the_other_reader(tmp_path, monkeypatch, truth, text, piece):
    monkeypatch.setattr(module, "_PIECE", piece)
    path = tmp_path / "found.json"
    path.write_text(text.replace("%s", json.dumps(RECORD | {"image_id": "a"})))
    assert read_rows(path, truth) is None
    with pytest.raises(UserError, match="found.json"):
        file_rows(path, truth)


def test_a_file_that_is_not_there(tmp_path, truth):
    assert read_rows(tmp_path / "found.json", truth) is None
    with pytest.raises(UserError, match="cannot be read"):
        file_rows(tmp_path / "found.json", truth)
