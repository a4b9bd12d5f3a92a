"""Every form of annotations through the front door: the same boxes, and messages that name file and line."""

import logging

import numpy as np
import pytest

from msdet.data.build_dataset import build_dataset
from msdet.data.formats.format import SourceOptions
from msdet.data.open import detect_format, load_annotations
from msdet.data.read_options import ReadOptions
from msdet.errors import UsageError, UserError
from tests.data import all_formats as formats


def read(root, split="train", **options):
    return build_dataset(
        load_annotations(SourceOptions(str(root), **options), split), ReadOptions(options.get("class_names", ()))
    )


def message(root, split="train", **options):
    with pytest.raises(UserError) as caught:
        read(root, split, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check(dataset, kind):
    assert dataset.format == kind
    assert dataset.class_names == list(formats.NAMES)
    assert len(dataset) == 3
    for sample, (boxes, labels) in zip(dataset.samples, formats.expected(), strict=True):
        np.testing.assert_allclose(sample.boxes, np.reshape(boxes, (-1, 4)), atol=2e-6)
        assert sample.labels.tolist() == labels
        assert sample.image_path.is_file()
    assert [(sample.width, sample.height) for sample in dataset.samples] == [
        size for size, _ in formats.IMAGES.values()
    ]


@pytest.mark.parametrize("wanted", ["auto", "voc"])
def test_voc(tmp_path, wanted, caplog):
    caplog.set_level(logging.INFO)
    dataset = read(formats.write_voc(tmp_path), dataset=wanted)
    check(dataset, "voc")
    assert dataset.samples[0].image_id == "a"
    assert dataset.samples[0].difficult.tolist() == [False, True]
    assert ("detected the annotation format 'voc'" in caplog.text) == (wanted == "auto")


@pytest.mark.parametrize("wanted", ["auto", "txt", "other"])
@pytest.mark.parametrize(("order", "first"), [("xyxy", 0), ("yxyx", 1)])
def test_txt(tmp_path, wanted, order, first):
    root = formats.write_txt(tmp_path, order, first)
    options = {"dataset": wanted, "txt_order": order, "txt_first_class": first}
    check(read(root, ann_file="train.txt", **options), "txt")
    if wanted != "auto":
        check(read(root, **options), "txt")
    (root / "classes.txt").unlink()
    numbers = read(root, ann_file="train.txt", **options).class_names
    assert numbers == [str(first), str(first + 1)]
    assert read(root, ann_file="train.txt", class_names=formats.NAMES, **options).class_names == list(formats.NAMES)


@pytest.mark.parametrize(
    ("inner", "labels", "yaml"),
    [
        ("images/train", "labels/train", "train: images/train\nval: images/train\n"),
        ("images/train", "labels/train", "path: elsewhere\ntrain: images/train\n"),
        ("train/images", "train/labels", "train: ../train/images\nval: ../valid/images\n"),
        ("images/train2017", "labels/train2017", ""),
        ("train/images", "train/labels", ""),
        ("images/train", "labels/train", "train: list.txt\n"),
    ],
)
def test_yolo(tmp_path, inner, labels, yaml):
    root = formats.write_yolo(tmp_path, inner, labels, yaml)
    (root / "list.txt").write_text("".join(f"{inner}/{name}.jpg\n" for name in formats.IMAGES))
    names = () if yaml else formats.NAMES
    check(read(root, class_names=names), "yolo")


def test_polygons_become_boxes(tmp_path):
    root = formats.write_yolo(tmp_path)
    (root / "labels" / "train" / "b.txt").write_text("1 0.25 0.5 0.5 0.25 0.75 0.5 0.5 1\n")
    np.testing.assert_allclose(read(root).samples[1].boxes, [[20, 10, 60, 40]])


def test_voc_devkit_of_two_years(tmp_path):
    formats.write_voc(tmp_path / "VOCdevkit" / "VOC2007", ("trainval", "test"))
    formats.write_voc(tmp_path / "VOCdevkit" / "VOC2012", ("train", "val", "trainval"))
    for path in (tmp_path / "VOCdevkit" / "VOC2012").rglob("a.*"):
        path.rename(path.with_name(f"2012_a{path.suffix}"))
    lists = tmp_path / "VOCdevkit" / "VOC2012" / "ImageSets" / "Main"
    (lists / "trainval.txt").write_text("2012_a\n")
    for root in (tmp_path, tmp_path / "VOCdevkit"):
        dataset = read(root)
        assert [sample.image_id for sample in dataset.samples] == ["a", "b", "c_d", "2012_a"]
        assert all(sample.image_path.is_file() for sample in dataset.samples)
        assert [sample.image_id for sample in read(root, "val").samples] == ["a", "b", "c_d"]
    assert "image id 'a' occurs 2 times" in message(tmp_path, dataset="voc0712plus")


def test_voc_export_beside_the_images(tmp_path):
    formats.write_images(tmp_path / "train")
    for name, (size, boxes) in formats.IMAGES.items():
        (tmp_path / "train" / f"{name}.xml").write_text(formats.voc_xml(name, size, boxes))
    check(read(tmp_path), "voc")
    assert "contains no split 'val' with VOC annotations" in message(tmp_path, "val")


def test_voc_lists_of_one_class_and_the_first_pixel(tmp_path):
    root = formats.write_voc(tmp_path)
    (root / "ImageSets" / "Main" / "cat_train.txt").write_text("a  1\nb -1\nc_d  0\n")
    dataset = read(root, ann_file="ImageSets/Main/cat_train.txt", voc_first_pixel=0)
    assert [sample.image_id for sample in dataset.samples] == ["a", "c_d"]
    np.testing.assert_array_equal(dataset.samples[0].boxes[0], [2, 3, 11, 22])


def test_all_classes_of_voc_are_taken(data_dir):
    dataset = read(data_dir / "voc_mini", "val")
    assert (len(dataset), len(dataset.class_names), dataset.report.boxes) == (19, 20, 57)


def test_formats_are_told_apart(tmp_path):
    formats.write_voc(tmp_path)
    assert detect_format(SourceOptions(str(tmp_path), "ImageSets/Main/train.txt"), "train").name == "voc"
    assert detect_format(SourceOptions(str(tmp_path), "Annotations"), "train").name == "voc"
    assert detect_format(SourceOptions("", "x.json"), "train").name == "coco"
    assert detect_format(SourceOptions("", "x.yaml"), "train").name == "yolo"
    (tmp_path / "data.yaml").write_text("train: images\nnames: [a]\n")
    assert "annotations in 2 formats: voc, yolo; choose one with --dataset" in message(tmp_path)


def test_nothing_is_found(tmp_path):
    (tmp_path / "pictures").mkdir()
    assert "contains the folders pictures. Looked for: COCO" in message(tmp_path)
    (tmp_path / "train" / "cat").mkdir(parents=True)
    assert "(one folder per class in train/ is for classifiers)" in message(tmp_path)
    assert "is not a folder" in message(tmp_path / "absent")
    with pytest.raises(UsageError, match="data_dir is empty"):
        load_annotations(SourceOptions(), "train")


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
        ("ImageSets/Main/train.txt", "a\n", "e\n", "e.xml, which"),
        ("ImageSets/Main/train.txt", "a\n", "../e\n", "train.txt:1: '../e' is not an image name"),
        ("ImageSets/Main/train.txt", "a\nb\nc_d\n", "\n", "lists no images"),
    ],
)
def test_broken_voc(tmp_path, file, old, new, text):
    root = formats.write_voc(tmp_path)
    path = root / file
    path.write_text(path.read_text().replace(old, new))
    assert text in message(root)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("1,2,11,22,0", "1,2,11,0", "train.txt:1: the box '1,2,11,0' has 4 values, expected five: x1,y1,x2,y2,class"),
        ("1,2,11,22,0", "1,b,11,22,0", "train.txt:1: the box '1,b,11,22,0' has a value that is not a number"),
        ("1,2,11,22,0", "1,2,11,22,cat", "the class of the box '1,2,11,22,cat' is 'cat', not an integer"),
        ("1,2,11,22,0", "1,2,11,22,2", "is not one of the 2 classes, numbered 0 to 1; if class numbers start at 1"),
        ("1,2,11,22,0", "11,2,1,22,0", "train.txt:1: image 'images/a.jpg' (images/a.jpg): the box 11,2,1,22,0"),
        ("1,2,11,22,0", "1,2,11,nan,0", "is not four finite numbers"),
        ("images/a.jpg", "../a.jpg", "points outside the image folder"),
        ("images/a.jpg", "images/b.jpg", "the image id 'images/b.jpg' occurs 2 times"),
        ("images/a.jpg", "", "train.txt:1: the line has no path"),
        ("images/a.jpg", "images/e.jpg", "1 of 3 images named in"),
    ],
)
def test_broken_txt(tmp_path, old, new, text):
    path = formats.write_txt(tmp_path) / "train.txt"
    path.write_text(path.read_text().replace(old, new))
    assert text in message(tmp_path, ann_file="train.txt")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("0 0.5 0.5 0.1", "a.txt:1: the line has 4 values, expected five: class cx cy w h"),
        ("cat 0.5 0.5 0.1 0.1", "a.txt:1: 'cat' is not a class number"),
        ("0 0.5 x 0.1 0.1", "has a value that is not a number"),
        ("0 32 24 10 10", "is in pixels; expected values relative to the image size"),
        ("2 0.5 0.5 0.1 0.1", "a.txt:1: the class 2 is not one of the 2 classes, numbered from 0"),
        ("0 0.95 0.5 0.4 0.1", "exceeds its image of 64x48 by 9.6 px"),
        ("0 0.5 0.5 0 0.1", "has no area"),
        ("0 nan 0.5 0.1 0.1", "is not four finite numbers"),
    ],
)
def test_broken_yolo(tmp_path, line, text):
    root = formats.write_yolo(tmp_path)
    (root / "labels" / "train" / "a.txt").write_text(line + "\n")
    assert text in message(root)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("train: [", "data.yaml:"),
        ("- a", "is not a data.yaml"),
        ("train: nowhere\nnames: [a, b]", "nowhere (the images of the split 'train') does not exist"),
        ("train: images/train\nnc: 3\nnames: [a, b]", "nc is 3, but names has 2 classes"),
        ("train: images/train\nnames: {1: a, 2: b}", "names has the numbers 1, 2, not 0 to 1"),
        ("train: images/train\nnames: 3", "names is not a list of class names"),
        ("train: labels/train\nnames: [a, b]", "no images in"),
    ],
)
def test_broken_data_yaml(tmp_path, content, text):
    root = formats.write_yolo(tmp_path, yaml="")
    (root / "data.yaml").write_text(content)
    assert text in message(root, dataset="yolo")


def test_yolo_without_any_labels(tmp_path):
    root = formats.write_yolo(tmp_path)
    for path in (root / "labels" / "train").iterdir():
        path.unlink()
    assert "none of 3 images has a label file, e.g." in message(root)


def test_a_fault_is_named_by_its_line_where_images_before_it_are_skipped(tmp_path):
    root = formats.write_txt(tmp_path / "data")
    (root / "images" / "a.jpg").unlink()
    path = root / "train.txt"
    path.write_text(path.read_text().replace("0,0,32,64,1", "0,0,99,64,1"))
    content = load_annotations(SourceOptions(str(root), ann_file="train.txt"), "train")
    with pytest.raises(UserError, match=r"train\.txt:3: image 'images/c d\.jpg'"):
        build_dataset(content, ReadOptions(on_bad_image="skip"))


@pytest.mark.parametrize("line", ["/", "..", "a/.", "x" * 300 + ".jpg", "y/" * 3000 + "a.jpg"])
def test_a_line_that_is_no_path_of_an_image(tmp_path, line):
    root = formats.write_yolo(tmp_path, yaml="train: list.txt\n")
    (root / "list.txt").write_text(f"images/train/a.jpg\n{line}\n")
    assert "list.txt:2: " in message(root) and "is not the path of an image" in message(root)
