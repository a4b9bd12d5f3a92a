"""Result files are streamed, and appear under their name only when complete."""

from __future__ import annotations

import json

import numpy as np
import pytest

from msdet.errors import UserError
from msdet.evaluation.detection_table import read_detections
from msdet.evaluation.result_file import DetectionWriter
from msdet.ops.postprocess import Detections


def some(count=3, seed=0):
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(0, 300, (count, 4)).astype(np.float32)
    boxes[:, 2:] += boxes[:, :2]
    return Detections(boxes, rng.random(count, dtype=np.float32), rng.integers(0, 2, count).astype(np.int32))


def test_written_detections_are_read_back(tmp_path):
    path = tmp_path / "new" / "folder" / "predictions.json"
    found = {139: some(3, 1), "image é": some(4, 2), 7: some(0)}
    with DetectionWriter(path, [10, np.int64(20)]) as writer:
        for image_id, detections in found.items():
            writer.write(image_id, detections)
    assert (writer.images, writer.detections) == (3, 7)
    records = json.loads(path.read_text())
    assert [record["image_id"] for record in records] == [139] * 3 + ["image é"] * 4
    boxes = np.concatenate([d.boxes for d in found.values()]).astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    np.testing.assert_allclose([record["bbox"] for record in records], boxes, atol=5.1e-5)
    scores = np.array([record["score"] for record in records], np.float32)
    np.testing.assert_array_equal(scores, np.concatenate([d.scores for d in found.values()]))  # to the last bit
    labels = np.concatenate([d.labels for d in found.values()])
    assert [record["category_id"] for record in records] == [[10, 20][label] for label in labels]
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    # The table in memory equals the file.
    kept, read = writer.builder.table(), read_detections(path)
    assert (kept.image_ids, kept.category_ids) == (read.image_ids, read.category_ids) == ([139, "image é"], [20, 10])
    for name in ("images", "categories", "boxes"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(read, name))
    np.testing.assert_array_equal(kept.scores.astype(np.float32), read.scores.astype(np.float32))


def test_without_a_file_detections_are_kept_in_memory():
    with DetectionWriter(None, [10, 20]) as writer:
        writer.write("a", some(3))
    assert len(writer.builder.table()) == 3 and writer.detections == 3


def test_a_file_without_detections_is_valid(tmp_path):
    with DetectionWriter(tmp_path / "none.json", [1]) as writer:
        writer.write(5, some(0))
    assert len(read_detections(tmp_path / "none.json")) == 0


@pytest.mark.parametrize("error", [RuntimeError("diverged"), FileNotFoundError("an image"), KeyboardInterrupt()])
def test_an_exception_keeps_the_previous_file(tmp_path, error):
    path = tmp_path / "predictions.json"
    path.write_text("[]")
    with pytest.raises(type(error)) as raised, DetectionWriter(path, [1, 2]) as writer:
        writer.write(1, some())
        raise error
    assert raised.value is error
    assert path.read_text() == "[]"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_unwritable_paths_are_user_errors(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a folder"), DetectionWriter(tmp_path, [1]):
        pass
    with pytest.raises(UserError, match="cannot be written"), DetectionWriter(tmp_path / "file" / "a.json", [1]):
        pass


def test_invalid_detections_are_refused(tmp_path):
    with pytest.raises(ValueError, match="inside"):
        DetectionWriter(tmp_path / "a.json", [1]).write(1, some())
    with DetectionWriter(tmp_path / "a.json", [1]) as writer:
        with pytest.raises(ValueError, match="label"):
            writer.write(1, Detections(np.zeros((1, 4)), np.ones(1), np.array([1])))
        with pytest.raises(ValueError, match="not finite"):
            writer.write(1, Detections(np.full((1, 4), np.inf), np.ones(1), np.array([0])))
