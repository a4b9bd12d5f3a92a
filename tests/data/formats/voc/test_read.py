"""Reading VOC annotations."""

import logging

import numpy as np
import pytest

from tests.data import all_formats as formats
from tests.data.all_formats import check, message, read


@pytest.mark.parametrize("wanted", ["auto", "voc"])
def test_boxes_labels_and_flags(tmp_path, wanted, caplog):
    caplog.set_level(logging.INFO)
    dataset = read(formats.write_voc(tmp_path), dataset=wanted)
    check(dataset, "voc")
    assert dataset.samples[0].image_id == "a"
    assert dataset.samples[0].difficult.tolist() == [False, True]
    assert ("detected the annotation format 'voc'" in caplog.text) == (wanted == "auto")


def test_lists_of_one_class_and_the_first_pixel(tmp_path):
    root = formats.write_voc(tmp_path)
    (root / "ImageSets" / "Main" / "cat_train.txt").write_text("a  1\nb -1\nc_d  0\n")
    dataset = read(root, ann_file="ImageSets/Main/cat_train.txt", voc_first_pixel=0)
    assert [sample.image_id for sample in dataset.samples] == ["a", "c_d"]
    np.testing.assert_array_equal(dataset.samples[0].boxes[0], [2, 3, 11, 22])


def test_voc_itself_has_all_its_classes(data_dir):
    dataset = read(data_dir / "voc_mini", "val")
    assert (len(dataset), len(dataset.class_names), dataset.report.boxes) == (19, 20, 57)


@pytest.mark.parametrize(
    ("file", "old", "new", "text"),
    [
        ("Annotations/a.xml", "<xmin>2</xmin>", "<xmin>x</xmin>", "a.xml:3: <xmin> is 'x', not a number"),
        ("Annotations/a.xml", "<xmin>2</xmin>", "", "a.xml:3: <bndbox> has no <xmin>"),
        ("Annotations/a.xml", "<name>cat</name>", "", "a.xml:3: an object has no <name>"),
        ("Annotations/a.xml", "</annotation>", "", "a.xml: it is not XML: no element found at line 6 column 1"),
        ("Annotations/a.xml", "annotation>", "note>", "its root is <note>, not <annotation>"),
        (
            "Annotations/a.xml",
            "<annotation>",
            '<!DOCTYPE a [<!ENTITY b "c">]><annotation>',
            "defines an entity at line 1",
        ),
        ("Annotations/a.xml", "<xmin>2</xmin>", "<xmin>70</xmin>", "a.xml:3: image 'a' (JPEGImages/a.jpg): the box"),
        ("Annotations/a.xml", "<xmin>2</xmin>", "<xmin>nan</xmin>", "is not four finite numbers"),
        ("ImageSets/Main/train.txt", "a\n", "e\n", "e.xml, listed in"),
        ("ImageSets/Main/train.txt", "a\n", "../e\n", "train.txt:1: '../e' is not an image name"),
        ("ImageSets/Main/train.txt", "a\nb\nc_d\n", "\n", "lists no images"),
    ],
)
def test_malformed_files_are_reported(tmp_path, file, old, new, text):
    root = formats.write_voc(tmp_path)
    path = root / file
    path.write_text(path.read_text().replace(old, new))
    assert text in message(root)
