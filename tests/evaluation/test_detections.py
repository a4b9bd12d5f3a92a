"""Result files: written as a stream, whole or not at all, and read with errors that help."""

from __future__ import annotations

import json

import numpy as np
import pytest
from msdet.evaluation.detections import DetectionWriter, iter_detections

from msdet.errors import UserError
from msdet.evaluation import detections as module
from msdet.ops.postprocess import Detections

RECORD = {"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}


def some(count=3, seed=0):
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(0, 300, (count, 4)).astype(np.float32)
    boxes[:, 2:] += boxes[:, :2]
    return Detections(boxes, rng.random(count, dtype=np.float32), rng.integers(0, 2, count).astype(np.int32))


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "new" / "folder" / "predictions.json"
    found = {139: some(3, 1), "image é": some(4, 2), 7: some(0)}
    with DetectionWriter(path, [10, np.int64(20)]) as writer:
        for image_id, detections in found.items():
            writer.write(image_id, detections)
    assert (writer.images, writer.detections) == (3, 7)
    records = list(iter_detections(path))
    assert records == json.loads(path.read_text())
    assert [record["image_id"] for record in records] == [139] * 3 + ["image é"] * 4
    boxes = np.concatenate([d.boxes for d in found.values()]).astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    np.testing.assert_allclose([record["bbox"] for record in records], boxes, atol=5.1e-5)
    scores = np.array([record["score"] for record in records], np.float32)
    np.testing.assert_array_equal(scores, np.concatenate([d.scores for d in found.values()]))  # to the last bit
    labels = np.concatenate([d.labels for d in found.values()])
    assert [record["category_id"] for record in records] == [[10, 20][label] for label in labels]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_no_detection_at_all(tmp_path):
    with DetectionWriter(tmp_path / "none.json", [1]) as writer:
        writer.write(5, some(0))
    assert list(iter_detections(tmp_path / "none.json")) == []


@pytest.mark.parametrize("error", [RuntimeError("diverged"), FileNotFoundError("an image"), KeyboardInterrupt()])
def test_an_exception_leaves_nothing_and_keeps_what_was_there(tmp_path, error):
    path = tmp_path / "predictions.json"
    path.write_text("[]")
    with pytest.raises(type(error)) as raised, DetectionWriter(path, [1, 2]) as writer:
        writer.write(1, some())
        raise error
    assert raised.value is error
    assert path.read_text() == "[]"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a folder"), DetectionWriter(tmp_path, [1]):
        pass
    with pytest.raises(UserError, match="cannot be written"), DetectionWriter(tmp_path / "file" / "a.json", [1]):
        pass


def test_what_cannot_be_a_detection(tmp_path):
    with pytest.raises(ValueError, match="inside"):
        DetectionWriter(tmp_path / "a.json", [1]).write(1, some())
    with DetectionWriter(tmp_path / "a.json", [1]) as writer:
        with pytest.raises(ValueError, match="label"):
            writer.write(1, Detections(np.zeros((1, 4)), np.ones(1), np.array([1])))
        with pytest.raises(ValueError, match="not finite"):
            writer.write(1, Detections(np.full((1, 4), np.inf), np.ones(1), np.array([0])))


@pytest.mark.parametrize("chunk", [3, 7, 64, 1 << 20])
def test_reading_in_pieces(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    records = [dict(RECORD, score=n / 7, image_id="x]},[" + str(n)) for n in range(20)]
    path = tmp_path / "a.json"
    for indent in (None, 2):
        path.write_text("\n " + json.dumps(records, indent=indent) + "\n")
        assert list(iter_detections(path)) == records
    path.write_text(" [ ] ")
    assert list(iter_detections(path)) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a result file"),
        ("\x89PNG", "is not a result file"),
        ('{"annotations": []}', "is not a result file"),
        ("[", "not a complete JSON array"),
        ("[" + json.dumps(RECORD), "after 0 records; was its writer interrupted"),
        ("[" + json.dumps(RECORD) + ",", "after 1 records; was its writer interrupted"),
        ("[" + json.dumps(RECORD) + ",]", "not a complete JSON array"),
        ("[" + json.dumps(RECORD) + " " + json.dumps(RECORD) + "]", "not a complete JSON array"),
        ("[] []", "goes on after the end"),
        ("[1]", "record 0 is 1, not an object"),
        (json.dumps([RECORD, {"image_id": 1}]), 'record 1 has no "category_id"'),
        (json.dumps([dict(RECORD, image_id=None)]), 'record 0 has "image_id": None'),
        (json.dumps([dict(RECORD, category_id=[1])]), '"category_id"'),
        (json.dumps([dict(RECORD, bbox=[1, 2, 3])]), '"bbox"'),
        (json.dumps([dict(RECORD, bbox=[1, 2, -3, 4])]), '"bbox"'),
        (json.dumps([dict(RECORD, bbox=None)]), '"bbox"'),
        (json.dumps([dict(RECORD, bbox="1234")]), '"bbox"'),
        (json.dumps([dict(RECORD, score="high")]), '"score"'),
        ('[{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": NaN}]', '"score"'),
    ],
)
def test_files_that_are_no_result_files(tmp_path, text, message):
    path = tmp_path / "broken.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as raised:
        list(iter_detections(path))
    assert message in str(raised.value)
    assert str(path) in str(raised.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        list(iter_detections(tmp_path / "absent.json"))
    (tmp_path / "binary.json").write_bytes(b"[\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8"):
        list(iter_detections(tmp_path / "binary.json"))
