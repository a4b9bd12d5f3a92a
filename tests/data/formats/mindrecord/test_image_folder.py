"""Classification datasets as MindRecord files and back."""

import json

import numpy as np
import pytest

from msdet.data.formats.imagefolder import read_image_folder
from msdet.data.formats.mindrecord.image_folder import read_image_folder_records, to_detection_dataset
from msdet.data.formats.mindrecord.write import write_mindrecord
from msdet.errors import UserError
from tests.data.conftest import write_image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("classes")
    for number, name in enumerate(("cat/a.jpg", "cat/b.jpg", "dog/a.jpg")):
        write_image(root / name, 40 + number, 30, seed=number)
    return read_image_folder(root, ["dog", "cat"])


@pytest.fixture(scope="module")
def records(folder, tmp_path_factory):
    return write_mindrecord(to_detection_dataset(folder), tmp_path_factory.mktemp("records"), "train", shards=2)


def test_a_class_is_a_box_around_the_whole_image(folder):
    dataset = to_detection_dataset(folder)
    assert (dataset.class_names, dataset.category_ids, dataset.format) == (["dog", "cat"], [1, 2], "imagefolder")
    assert [sample.image_id for sample in dataset.samples] == ["cat/a.jpg", "cat/b.jpg", "dog/a.jpg"]
    assert [sample.labels.tolist() for sample in dataset.samples] == [[1], [1], [0]]
    np.testing.assert_array_equal(dataset.samples[1].boxes, [[0, 0, 41, 30]])


@pytest.mark.parametrize(("names", "labels"), [((), [1, 1, 0]), (("cat", "dog"), [0, 0, 1])])
def test_records_give_the_same_dataset_in_any_order_of_classes(folder, records, names, labels):
    again = read_image_folder_records(records, "train", names)
    assert (again.files, again.labels.tolist()) == (folder.files, labels)
    assert again.class_names == list(names or folder.class_names)
    image = again.store.read(again[2].image_path)
    assert image == (folder.root / "dog" / "a.jpg").read_bytes()


def test_records_with_other_classes_or_of_detectors(records, made, tmp_path):
    with pytest.raises(UserError, match="differ from the configured classes .*cow"):
        read_image_folder_records(records, "train", ["cat", "cow"])
    with pytest.raises(UserError, match="contains a detection dataset, not one class per image"):
        read_image_folder_records(made / "train", "train")


def test_an_image_without_a_class(records, tmp_path):
    copy = tmp_path / "train"
    copy.mkdir()
    for path in records.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    entries = json.loads((copy / "train.json").read_text())
    del entries["annotations"][0]
    (copy / "train.json").write_text(json.dumps(entries))
    with pytest.raises(UserError, match=r"train\.json is damaged: an image has no class"):
        read_image_folder_records(copy, "train")
