"""Detection tables: read from a file in chunks, or converted from records, with messages for invalid ones."""

from __future__ import annotations

import json

import numpy as np
import pytest

from msdet.errors import UserError
from msdet.evaluation import detection_table as module
from msdet.evaluation.detection_table import read_detections, to_table

RECORD = {"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}


def records_of(table):
    """The table as records of a result file."""
    return [
        {
            "image_id": table.image_ids[image],
            "category_id": table.category_ids[category],
            "bbox": box,
            "score": score,
        }
        for image, category, box, score in zip(
            table.images.tolist(), table.categories.tolist(), table.boxes.tolist(), table.scores.tolist(), strict=True
        )
    ]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("chunk", [20, 400, 1 << 24])
def test_files_and_records_give_the_same_table(tmp_path, monkeypatch, chunk, indent):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    rng = np.random.default_rng(0)
    records = [
        {
            "image_id": ["a", "b}, {", 5, "é]"][n % 4],
            "category_id": [7, 8, "9"][n // 3 % 3],
            "bbox": rng.uniform(0, 99, 4).tolist(),
            "score": float(rng.random()),
        }
        for n in range(30)
    ]
    path = tmp_path / "found.json"
    path.write_text(" \n" + json.dumps(records, indent=indent, ensure_ascii=False) + "\n ", encoding="utf-8")
    assert records_of(read_detections(path)) == records_of(to_table(records)) == records


@pytest.mark.parametrize("chunk", [20, 1 << 24])
def test_unknown_keys_are_ignored(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    path = tmp_path / "found.json"
    path.write_text(json.dumps([RECORD | {"segmentation": {"counts": "}1,{"}, "note": "x},"}, RECORD]))
    assert records_of(read_detections(path)) == [RECORD, RECORD]


def test_integers_are_valid_numbers():
    table = to_table([RECORD | {"score": 1}])
    assert table.boxes.dtype == table.scores.dtype == np.float64 and table.scores[0] == 1


@pytest.mark.parametrize("chunk", [3, 7, 64, 1 << 20])
def test_files_are_read_in_chunks(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    records = [dict(RECORD, score=n / 7, image_id="x]},[" + str(n)) for n in range(20)]
    path = tmp_path / "a.json"
    for indent in (None, 2):
        path.write_text("\n " + json.dumps(records, indent=indent) + "\n")
        assert records_of(read_detections(path)) == records
    path.write_text(" [ ] ")
    assert len(read_detections(path)) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a result file"),
        ("\x89PNG", "is not a result file"),
        ('{"annotations": []}', "is not a result file"),
        ("[", "not a complete JSON array"),
        ("[" + json.dumps(RECORD), "after 1 records; was its writer interrupted"),
        ("[" + json.dumps(RECORD) + ",", "after 1 records; was its writer interrupted"),
        ("[" + json.dumps(RECORD) + ",]", "not a complete JSON array"),
        ("[" + json.dumps(RECORD) + " " + json.dumps(RECORD) + "]", "not a complete JSON array"),
        ("[] []", "continues after the end"),
        ("[1]", "record 0 is 1, not an object"),
        (json.dumps([RECORD, {"image_id": 1}]), 'record 1 has no "category_id"'),
        (json.dumps([dict(RECORD, image_id=None)]), 'record 0 has "image_id": None'),
        (json.dumps([dict(RECORD, category_id=[1])]), '"category_id"'),
        (json.dumps([dict(RECORD, category_id=True)]), '"category_id"'),
        (json.dumps([*[RECORD] * 30, dict(RECORD, bbox=[1, 2, 3])]), "record 30 has"),
        ("[," + json.dumps(RECORD) + "]", "not a complete JSON array"),
        ("[" + json.dumps(RECORD) + "]]", "continues after the end"),
        (json.dumps([dict(RECORD, bbox=[1, 2, 3])]), '"bbox"'),
        (json.dumps([dict(RECORD, bbox=[1, 2, -3, 4])]), '"bbox"'),
        (json.dumps([dict(RECORD, bbox=None)]), '"bbox"'),
        (json.dumps([dict(RECORD, bbox="1234")]), '"bbox"'),
        (json.dumps([dict(RECORD, score="high")]), '"score"'),
        ('[{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": NaN}]', '"score"'),
    ],
)
def test_invalid_result_files_are_refused(tmp_path, text, message):
    path = tmp_path / "broken.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as raised:
        read_detections(path)
    assert message in str(raised.value)
    assert str(path) in str(raised.value)


def test_unreadable_result_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_detections(tmp_path / "absent.json")
    (tmp_path / "binary.json").write_bytes(b"[\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8"):
        read_detections(tmp_path / "binary.json")
