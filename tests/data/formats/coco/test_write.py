"""Writing COCO files."""

import json

import pytest

from msdet.data.formats.coco.read import read_coco
from msdet.data.formats.coco.write import coco_of, write_coco
from msdet.data.formats.mindrecord.read import fingerprint


def test_ids_boxes_areas_and_flags(coco):
    coco.add_image("kitchen/7", file_name="sub/a b.jpg", boxes=[[1, 1, 5.25, 5]], category_id=7)
    coco.add_box("kitchen/7", [10, 10, 20, 5], iscrowd=1, area=33.5, id=40)
    coco.add_box("kitchen/7", [11, 10, 20, 5], difficult=1, id=41)
    written = coco_of(read_coco(*coco.write()))
    assert written["images"] == [{"id": "kitchen/7", "file_name": "sub/a b.jpg", "width": 64, "height": 48}]
    assert written["categories"] == [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    columns = ("id", "category_id", "bbox", "area", "iscrowd", "difficult")
    assert [[entry.get(key) for key in columns] for entry in written["annotations"]] == [
        [1, 7, [1, 1, 5.25, 5], 26.25, 0, None],
        [2, 3, [10, 10, 20, 5], 33.5, 1, None],
        [3, 3, [11, 10, 20, 5], 100, 0, 1],
    ]


def test_unused_classes_are_not_written(coco):
    coco.add_image(1, boxes=[[1, 1, 5, 5]], category_id=7)
    written = coco_of(read_coco(*coco.write(), label_map="coco_id_minus_1"))
    assert [entry["id"] for entry in written["categories"]] == [3, 7]


def test_a_file_has_one_entry_per_line_and_appears_when_it_is_complete(tmp_path):
    entries = {"info": {"split": "train"}, "images": [{"id": 1}, {"id": 2}], "annotations": []}
    write_coco(entries, tmp_path / "a.json")
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == entries
    assert {'{"id": 1},', '{"id": 2}'} <= set(text.splitlines())
    with pytest.raises(TypeError):
        write_coco({"images": [object()]}, tmp_path / "b.json")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_written_files_read_back(many, tmp_path):
    files = read_coco(many.ann_file, many.image_dir)
    write_coco(coco_of(files), tmp_path / "out.json")
    again = read_coco(tmp_path / "out.json", files.image_dir)
    assert fingerprint(again) == fingerprint(files)
