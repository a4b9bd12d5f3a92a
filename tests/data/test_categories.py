"""Class names, category ids and labels."""

from msdet.data.formats.coco.read import UNUSED_CLASS, read_coco
from tests.data.conftest import coco_error


def test_labels_from_category_ids(coco):
    coco.add_image(1, boxes=[[1, 1, 5, 5]], category_id=7)
    dataset = read_coco(*coco.write(), label_map="coco_id_minus_1")
    assert dataset.samples[0].labels.tolist() == [6]
    assert dataset.category_ids == [1, 2, 3, 4, 5, 6, 7]
    assert dataset.class_names[2] == "cat"
    assert dataset.class_names[6] == "dog"
    assert dataset.class_names[0] == UNUSED_CLASS
    coco.content["categories"][0]["id"] = 0
    assert "needs ids from 1" in coco_error(coco, label_map="coco_id_minus_1")


def test_configured_classes_define_the_labels(coco, caplog):
    coco.add_image(1, boxes=[[1, 1, 5, 5]], category_id=7)
    dataset = read_coco(*coco.write(), ["dog", "horse", "cat"])
    assert dataset.samples[0].labels.tolist() == [0]
    assert dataset.class_names == ["dog", "horse", "cat"]
    assert dataset.category_ids[0] == 7
    assert dataset.category_ids[2] == 3
    assert dataset.category_ids[1] not in (3, 7)
    assert "no category 'horse'" in caplog.text


def test_an_unknown_category_is_an_error_only_if_a_box_uses_it(coco):
    coco.content["categories"].append({"id": 9, "name": "motorbike"})
    coco.add_image(1, boxes=[[1, 1, 5, 5]])
    read_coco(*coco.write(), ["cat", "dog"])
    coco.add_box(1, [1, 1, 5, 5], 9)
    text = coco_error(coco, class_names=["cat", "motorcycle", "dog"])
    assert "annotation 2" in text
    assert "image 1" in text
    assert "'motorbike'" in text
    assert "did you mean 'motorcycle'?" in text


def test_a_duplicate_category_without_boxes_is_ignored(coco, caplog):
    coco.add_image(1, boxes=[[1, 1, 5, 5]])
    used = coco.content["annotations"][0]["category_id"]
    name = next(c["name"] for c in coco.content["categories"] if c["id"] == used)
    coco.content["categories"].insert(0, {"id": 0, "name": name, "supercategory": "none"})
    dataset = read_coco(*coco.write())
    assert dataset.category_ids.count(used) == 1 and 0 not in dataset.category_ids
    assert f"the category {name!r} has two ids; ignoring 0, which no box uses" in caplog.text
    coco.add_box(1, [2, 2, 5, 5], category_id=0)
    assert f"the category name {name!r} occurs 2 times. msdet check --fix OUT" in coco_error(coco)
