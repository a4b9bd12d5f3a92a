"""The check of detection splits: other formats, class names, and comparison of splits."""

import json
import shutil

import pytest

from msdet.data.formats.coco.read import read_coco
from msdet.data.formats.mindrecord.write import write_mindrecord
from msdet.tools.check import check
from tests.data import all_formats as formats
from tests.data.conftest import write_image
from tests.tools.check.datasets import arguments, findings, valid_dataset


def test_class_names_differ_from_the_configuration(tmp_path):
    folder = valid_dataset(tmp_path / "data")
    folder.content["categories"] = [{"id": 3, "name": "Hot-Dog"}, {"id": 7, "name": "persn"}]
    folder.write()
    found, checked = findings(tmp_path / "data", "--class_names=hot dog,person")
    texts = [(f.text, f.fix) for f in found if f.kind == "unknown class"]
    assert "'Hot-Dog' (2 boxes) is not among the classes of the configuration (did you mean 'hot dog'?)" in texts[0][0]
    assert texts[0][1] == "renamed to 'hot dog'"
    assert ("did you mean 'person'" in texts[1][0], texts[1][1]) == (True, "its boxes are removed")
    assert checked.report.classes[0] == {"name": "hot dog", "boxes": 2, "images": 1}
    found, _ = findings(tmp_path / "data", "--num_classes=3")
    assert any("is 3, but" in f.text and "has 2 classes" in f.text for f in found if f.kind == "number of classes")


@pytest.mark.parametrize(
    ("dataset_format", "file", "old", "new", "text"),
    [
        ("voc", "Annotations/a.xml", "<xmin>2<", "<xmin>x<", "a.xml:3: <xmin> is 'x', not a number"),
        ("voc", "Annotations/a.xml", "<xmin>2<", "<xmin>70<", "a.xml:3: image 'a' (JPEGImages/a.jpg): the box"),
        ("voc", "Annotations/a.xml", "</annotation>", "", "it is not XML: no element found"),
        ("voc", "ImageSets/Main/train.txt", "a\n", "d\n", "d.xml, listed in"),
        ("txt", "train.txt", "1,2,11,22,0", "1,2,11,22", "train.txt:1: the box '1,2,11,22' has 4 values"),
        ("txt", "train.txt", "1,2,11,22,0", "1,2,99,22,0", "train.txt:1: image 'images/a.jpg' (images/a.jpg): the box"),
        ("txt", "train.txt", "images/b", "images/d", "d.jpg is missing"),
        ("yolo", "labels/train/a.txt", "0 ", "5 ", "a.txt:1: the class 5 is not one of the 2 classes"),
        ("yolo", "labels/train/a.txt", "0 0.", "0 1.", "a.txt:1: image 'a.jpg' (a.jpg): the box 0 1."),
        ("yolo", "data.yaml", "nc: 2", "nc: 4", "nc is 4, but names has 2 classes"),
    ],
)
def test_other_formats_report_file_and_line(tmp_path, dataset_format, file, old, new, text):
    root = getattr(formats, f"write_{dataset_format}")(tmp_path / dataset_format)
    path = root / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    found, checked = findings(root, f"--dataset={dataset_format}")
    assert any(text in f.text and f.severity == "error" for f in found), found
    assert checked.dataset is None or 2 <= len(checked.dataset) <= 3


def test_shared_images_and_unseen_classes(tmp_path, capsys):
    folder = valid_dataset(tmp_path / "data")
    folder.write()
    content = json.loads(folder.ann_file.read_text())
    content["annotations"] = content["annotations"][:2]
    folder.ann_file.write_text(json.dumps(content))
    (tmp_path / "data" / "val").mkdir()
    shutil.copy(folder.image_dir / "2.jpg", tmp_path / "data" / "val" / "a.jpg")
    write_image(tmp_path / "data" / "val" / "b.jpg", 64, 48, seed=9)
    box = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 1, 9, 9], "iscrowd": 0}
    images = [{"id": n, "file_name": f"{name}.jpg", "width": 64, "height": 48} for n, name in enumerate("ab", 1)]
    val = {"images": images, "annotations": [box], "categories": content["categories"]}
    (folder.ann_file.parent / "val.json").write_text(json.dumps(val))
    assert check.main([*arguments(tmp_path / "data"), f"--json={tmp_path}/out.json"]) == 0
    text = capsys.readouterr().out
    assert "1 of 2 validation images are also training images: a.jpg = 2.jpg" in text
    assert "1 classes have boxes in validation but none in training: dog" in text
    assert "0 errors" in text.splitlines()[-2]
    splits = json.loads((tmp_path / "out.json").read_text())["splits"]
    assert [split["split"] for split in splits] == ["train", "val"]
    assert any(f["kind"] == "training image in validation" for f in splits[1]["findings"])


def test_line_numbers_of_a_multiline_file(tmp_path):
    folder = valid_dataset(tmp_path / "data")
    folder.add_box(1, [60, 0, 20, 10])
    folder.add_box(1, [0, 0, 0, 10])
    folder.write(indent=1)
    lines = folder.ann_file.read_text().splitlines()
    found, _ = findings(tmp_path / "data")
    for number in (4, 5):
        text = next(f.text for f in found if f.text.startswith(f"annotation {number} "))
        line = int(text.split("(line ")[1].split(")")[0])
        assert f'"id": {number}' in lines[line - 1] and line > lines.index(' "annotations": [')


def test_mindrecord(tmp_path):
    folder = valid_dataset(tmp_path / "data")
    write_mindrecord(read_coco(*folder.write()), tmp_path / "records", "train", shards=2)
    found, checked = findings(tmp_path / "records")
    assert (found, checked.report.format, checked.report.statistics["boxes"]) == ([], "mindrecord", 3)
    path = tmp_path / "records" / "train" / "train.mindrecord0"
    data = bytearray(path.read_bytes())
    _, offset, size, _ = next(place for place in checked.dataset.store.rows.values() if place[0] == 0)
    data[offset + size // 2] ^= 255
    path.write_bytes(data)
    found, _ = findings(tmp_path / "records")
    assert [f.kind for f in found if f.severity == "error"] == ["corrupt image"]
