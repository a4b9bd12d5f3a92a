"""The dataset check: a collection of invalid inputs with their findings, cleaned copies, and the HTML page."""

import json
import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest

from msdet.config import load_config
from msdet.data.formats.coco.read import read_coco
from msdet.data.formats.mindrecord.write import write_mindrecord
from msdet.errors import UsageError
from msdet.session.datasets import open_dataset
from msdet.tools.check import check
from msdet.tools.check.anchors import best_iou, shape_iou, suggest_anchors
from msdet.tools.check.splits import check_detection
from tests.data import all_formats as formats
from tests.data.conftest import CocoFolder, write_image
from tests.data.images.test_decode import with_orientation

CONFIG = "configs/yolov3_shapes.yaml"


def config(root, *flags):
    return load_config(CONFIG, ["--class_names=", "--num_classes=0", f"--data_dir={root}", *flags])


def valid_dataset(root):
    """A valid COCO dataset, only very small."""
    folder = CocoFolder(root)
    folder.add_image(1, boxes=[[1, 2, 10, 20], [30, 4, 11, 10]])
    folder.add_image(2, boxes=[[5, 5, 20, 20]], category_id=7)
    folder.add_image("three", 80, 40)
    return folder


def findings(root, *flags):
    cfg = config(root, *flags)
    (checked,) = check_detection(cfg, ["train"])
    return [f for f in checked.report.findings if f.kind not in ("low anchor recall", "rare class")], checked


def _set(entry, **values):
    def change(folder):
        group, position = entry
        folder.content[group][position].update(values)

    return change


def _box(*values):
    return lambda folder: folder.add_box(1, list(values))


def _file(name, data):
    def change(folder):
        (folder.image_dir / name).write_bytes(data)

    return change


def _truncated(folder):
    path = folder.image_dir / "1.jpg"
    path.write_bytes(path.read_bytes()[:300])


def _copy(folder):
    shutil.copy(folder.image_dir / "1.jpg", folder.image_dir / "2.jpg")


def _rotated(width, height):
    def change(folder):
        path = folder.image_dir / "1.jpg"
        path.write_bytes(with_orientation(path.read_bytes(), 6))
        folder.content["images"][0].update(width=width, height=height)
        folder.content["annotations"] = [a for a in folder.content["annotations"] if a["image_id"] != 1]

    return change


def _delete(group, position, key):
    return lambda folder: folder.content[group][position].pop(key)


def _duplicate(group, position):
    return lambda folder: folder.content[group].append(dict(folder.content[group][position]))


COCO = [
    (_box(60, 0, 20, 10), "box outside its image", "annotation 4: image 1 (1.jpg): the box [60, 0, 20, 10]", "error"),
    (_box(70, 0, 20, 10), "box outside its image", "exceeds its image of 64x48 by 26 px", "error"),
    (_box(0, 0, 0, 10), "box of zero area", "has no area", "error"),
    (_box(64, 0, 1, 10), "box of zero area", "has no area", "error"),
    (_box(9, 9, -5, 10), "box of negative size", "has a negative width or height", "error"),
    (_box(0, 0, float("nan"), 9), "box without four numbers", "is not four finite numbers", "error"),
    (_box(0, 0, float("inf"), 9), "box without four numbers", "is not four finite numbers", "error"),
    (_box(0, 0, 9), "box without four numbers", "is not four finite numbers", "error"),
    (_box("0", 0, 9, 9), "box without four numbers", "is not four finite numbers", "error"),
    (_box(1, 2, 10, 20), "duplicate box", "annotation 4: image 1 (1.jpg): the box is a duplicate", "warning"),
    (_box(54.5, 0, 10, 10), "box clipped by less than a pixel", "1 boxes exceed their images by at most", "note"),
    (_box(0, 0, 1, 9), "box too small at the input size", "1 of 4 boxes (25.0%) are less than 4 px", "warning"),
    (_set(("annotations", 0), image_id=9), "annotation of an unknown image", "no image has the id 9", "error"),
    (_set(("annotations", 0), image_id="1"), "annotation of an unknown image", "string ids differ", "error"),
    (_set(("annotations", 0), category_id=9), "annotation of an unknown category", "no category has the id 9", "error"),
    (_set(("annotations", 0), area=float("nan")), "invalid area", "annotation 1: the area 'nan' is not a number of px",
     "warning"),
    (_set(("annotations", 0), area=10**400), "invalid area", "annotation 1: the area '1000", "warning"),
    (_set(("annotations", 0), area="200"), "invalid area", "annotation 1: the area '200' is not a number", "warning"),
    (_set(("annotations", 0), iscrowd=2), "bad iscrowd", "iscrowd is 2, not 0 or 1", "error"),
    (_delete("annotations", 0, "bbox"), "annotation lacks a key", "annotation 1: the key 'bbox' is missing", "error"),
    (_delete("annotations", 0, "image_id"), "annotation lacks a key", "the key 'image_id' is missing", "error"),
    (_duplicate("annotations", 0), "duplicate annotation id", "the annotation id 1 is used twice", "error"),
    (_duplicate("images", 0), "duplicate image id", "the image id 1 is used twice (1.jpg)", "error"),
    (_delete("images", 0, "file_name"), "malformed image entry", "image 1 has no file_name", "error"),
    (_delete("images", 0, "id"), "malformed image entry", "image 0 has no usable id (None)", "error"),
    (_set(("images", 0), file_name="../1.jpg"), "file name outside the folder", "points outside the image", "error"),
    (_set(("images", 0), file_name="/etc/passwd"), "file name outside the folder", "points outside the image", "error"),
    (_set(("images", 0), width=-3), "malformed image entry", "image 1 has width -3 and height 48", "error"),
    (_set(("images", 0), width=65), "size differs from the annotation", "has 64x48 pixels, its annotation has 65x48",
     "error"),
    (_set(("images", 0), file_name="4.jpg"), "missing image", "4.jpg is missing", "error"),
    (_set(("images", 0), file_name="4.jpg"), "image without an entry", "do not list 1 images: 1.jpg", "note"),
    (_file("1.jpg", b""), "corrupt image", "1.jpg is empty", "error"),
    (_file("1.jpg", b"<html>404</html>"), "corrupt image", "1.jpg is not a supported image", "error"),
    (_truncated, "corrupt image", "1.jpg", "error"),
    (_file("notes.md", b"x"), "not an image", "1 files are not images: notes.md", "note"),
    (_copy, "duplicate image", "2 images are identical: 1.jpg, 2.jpg", "warning"),
    (_rotated(48, 64), "EXIF rotation", "has EXIF orientation 6: it is rotated upright when read", "note"),
    (_rotated(64, 48), "EXIF rotation", "it is read without rotation", "warning"),
    (_set(("categories", 0), id="3"), "malformed category", "category 0 needs an integer 'id'", "error"),
    (_set(("categories", 0), id=7), "duplicate category", "the category id 7 is used twice ('dog')", "error"),
    (_set(("categories", 1), name="cat"), "duplicate category", "'cat' is used twice, with ids 3 and 7",
     "error"),
    (lambda f: f.content["categories"].append({"id": 9, "name": "cow"}), "unused class",
     "1 classes have no boxes: cow", "warning"),
    (lambda f: f.content.pop("images"), "unreadable annotations", "the key 'images' is missing", "error"),
    (lambda f: f.content.update(images=[]), "unreadable annotations", "lists no images", "error"),
    (lambda f: f.content.update(images=3), "unreadable annotations", "is not a COCO annotation file", "error"),
]  # fmt: skip


def test_valid_dataset_has_no_findings(tmp_path):
    valid_dataset(tmp_path / "data").write()
    found, checked = findings(tmp_path / "data")
    assert found == []
    assert checked.report.numbers["images"] == 3
    assert checked.report.classes == [
        {"name": "cat", "boxes": 2, "images": 1},
        {"name": "dog", "boxes": 1, "images": 1},
    ]


@pytest.mark.parametrize(("change", "kind", "text", "severity"), COCO)
def test_problem_is_reported_and_cleaned(tmp_path, change, kind, text, severity):
    folder = valid_dataset(tmp_path / "data")
    change(folder)
    folder.write()
    found, checked = findings(tmp_path / "data")
    same = [f for f in found if f.kind == kind]
    assert same, found
    assert any(text in f.text and f.severity == severity for f in same), same
    if checked.dataset is None:
        assert kind == "unreadable annotations"
        return
    # The cleaned copy is valid: only notes remain.
    root = tmp_path / "data"
    assert check.main([*arguments(root), f"--fix={tmp_path}/fixed", "--splits=train"]) == min(
        checked.report.count("error"), 1
    )
    flags = [f"--train_ann_file={tmp_path}/fixed/train.json", f"--train_image_dir={folder.image_dir}"]
    left, _ = findings(root, *flags)
    allowed = {"unused class", "duplicate image", "box too small at the input size", "EXIF rotation"}
    assert not [f for f in left if f.severity != "note" and f.kind not in allowed], left
    dataset, _ = open_dataset(config(root, *flags), "train")
    assert len(dataset) == len(checked.dataset)


def arguments(root):
    return ["--config", CONFIG, "--class_names=", "--num_classes=0", f"--data_dir={root}"]


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
        ("voc", "ImageSets/Main/train.txt", "a\n", "d\n", "d.xml, which"),
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


def test_image_folders_of_a_classifier(tmp_path, capsys):
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            write_image(tmp_path / split / name / f"{split}.jpg", 40, 40, seed=len(split + name))
    (tmp_path / "train" / "dog" / "broken.jpg").write_bytes(b"x" * 99)
    shutil.copy(tmp_path / "train" / "cat" / "train.jpg", tmp_path / "val" / "cat" / "copy.jpg")
    assert check.main(["--config", "configs/darknet53_imagenet.yaml", "--num_classes=0", f"--data_dir={tmp_path}"]) == 1
    text = capsys.readouterr().out
    assert "[error] corrupt image: 1" in text
    assert "validation images are also training images" in text
    assert "2 classes have fewer than 10 images: cat (1), dog (2)" in text


@pytest.mark.parametrize(
    ("flags", "text"), [(["--splits=all"], "--splits is 'all'; it takes train, val"), (["--datadir=x"], "unknown flag")]
)
def test_invalid_flags(tmp_path, flags, text):
    with pytest.raises(UsageError, match=text):
        check.main(["--config", CONFIG, *flags])


def test_fast_check_before_training(tmp_path, caplog):
    folder = valid_dataset(tmp_path / "data")
    folder.content["categories"].append({"id": 9, "name": "cow"})
    folder.add_box(1, [1, 2, 10, 20])
    folder.write()
    open_dataset(config(tmp_path / "data"), "train")
    assert "1 boxes are duplicates" in caplog.text
    assert "1 classes have no boxes: cow" in caplog.text


def test_best_iou_equals_all_pairs():
    from msdet.models.efficientdet_d0.anchors import make_anchors

    anchors = make_anchors(128, 256)
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 1, (200, 2)) * (200, 100)
    boxes = np.concatenate([corner, corner + rng.uniform(3, 90, (200, 2))], axis=1).astype(np.float32)
    low, high = anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2
    shared = np.clip(np.minimum(high, boxes[:, None, 2:]) - np.maximum(low, boxes[:, None, :2]), 0, None).prod(2)
    union = anchors[:, 2:].prod(1) + (boxes[:, 2:] - boxes[:, :2]).prod(1)[:, None] - shared
    np.testing.assert_allclose(best_iou(boxes, anchors), (shared / union).max(1), atol=1e-5)


def test_suggested_anchors_find_clusters():
    rng = np.random.default_rng(0)
    sides = np.concatenate([np.array(centre) * rng.uniform(0.95, 1.05, (30, 2)) for centre in ((10, 20), (90, 40))])
    anchors = suggest_anchors(sides, 2)
    np.testing.assert_allclose(anchors, [[10, 20], [90, 40]], rtol=0.05)
    assert shape_iou(sides, anchors).max(1).min() > 0.8


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    folder = valid_dataset(root / "data")
    folder.add_box(1, [60, 0, 20, 10])
    folder.content["images"][1]["file_name"] = "<b>&.jpg"
    folder.write()
    (folder.image_dir / "2.jpg").rename(folder.image_dir / "<b>&.jpg")
    assert check.main([*arguments(root / "data"), "--splits=train", f"--html={root}/page.html"]) == 1
    return root / "page.html"


def test_page_is_self_contained(page):
    text = page.read_text()
    assert not re.search("src=.?http", text) and "href=" not in text.replace("xlink:href=", "")
    assert "box outside its image (1)" in text
    assert "&lt;b&gt;&amp;.jpg" in text and "<b>&" not in text
    assert text.count("data:image/jpeg;base64,") == 4
    assert "<svg" in text


def test_page_opens_in_a_browser(page, tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("Chromium is not installed")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    shot = tmp_path / "page.png"
    subprocess.run([*command, f"--screenshot={shot}", "--window-size=900,1200", page.as_uri()], check=True,
                   capture_output=True, timeout=120)  # fmt: skip
    screenshot_pixels = cv2.imread(str(shot))
    assert screenshot_pixels.shape[:2] == (1200, 900)
    assert len(np.unique(screenshot_pixels.reshape(-1, 3), axis=0)) > 100
    dump = subprocess.run([*command, "--dump-dom", page.as_uri()], check=True, capture_output=True, timeout=120).stdout
    assert b"Check of" in dump and dump.count(b"<figure>") == 4


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
    assert (found, checked.report.format, checked.report.numbers["boxes"]) == ([], "mindrecord", 3)
    path = tmp_path / "records" / "train" / "train.mindrecord0"
    data = bytearray(path.read_bytes())
    _, offset, size, _ = next(place for place in checked.dataset.store.rows.values() if place[0] == 0)
    data[offset + size // 2] ^= 255
    path.write_bytes(data)
    found, _ = findings(tmp_path / "records")
    assert [f.kind for f in found if f.severity == "error"] == ["corrupt image"]


def test_real_dataset(data_dir, capsys):
    root = data_dir / "coco_mini"
    assert check.main(["--config", "configs/yolov4.yaml", f"--data_dir={root}", "--quick"]) == 0
    text = capsys.readouterr().out
    assert "images: 215" in text
    assert "images: 206" in text
    assert "0 errors" in text


@pytest.mark.parametrize(("left", "kept"), [(59.1, False), (59, True), (54.5, True), (69, False)])
def test_box_is_clipped_if_half_of_it_remains(tmp_path, left, kept):
    """Boxes of 10 x 10 px in an image of 64 px, of which 4.9, 5, 9.5 or 0 px remain."""
    folder = valid_dataset(tmp_path / "data")
    folder.add_box(2, [left, 10, 10, 10], 7, area=77)
    folder.write()
    out = tmp_path / "fixed"
    check.main([*arguments(tmp_path / "data"), f"--fix={out}", "--splits=train"])
    boxes = [a for a in json.loads((out / "train.json").read_text())["annotations"] if a["bbox"][1] == 10]
    assert len(boxes) == kept
    if kept:
        assert boxes[0]["bbox"] == pytest.approx([left, 10, 64 - left, 10])
        # The area of a mask is unknown if the box is clipped.
        assert boxes[0]["area"] == pytest.approx(77 if left == 54.5 else 10 * (64 - left))
