"""Scoring a result file needs the annotations, and images only for relative boxes (YOLO) or drawing."""

import json
import shutil

import pytest

import eval as evaluation
from msdet.evaluation.detection import DetectionTask
from tests.data import all_formats as formats
from tests.data.conftest import CocoFolder
from tests.in_process import run

pytestmark = pytest.mark.usefixtures("at_root")
# Published with COCO's own example.
KNOWN = [
    0.5045806987249628, 0.6969727247299577, 0.5729816669904824, 0.5856257209410443, 0.5193996948036719,
    0.5013978986347466, 0.38681277964578054, 0.5936795762842003, 0.595352982877607, 0.6398109626113442,
    0.5664205978994309, 0.5642905982905982,
]  # fmt: skip


def score(*flags, config="yolov3", num_classes=0):
    base = (f"--config=configs/{config}.yaml", f"--num_classes={num_classes}")
    return run(evaluation.main, *base, *flags)


def results(monkeypatch):
    """A list that receives the exact result of each scoring."""
    kept, real = [], DetectionTask.score

    def score(self, collected):
        kept.append(real(self, collected))
        return kept[-1]

    monkeypatch.setattr(DetectionTask, "score", score)
    return kept


@pytest.mark.parametrize("scorer", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize(
    "model", [("yolov3", 0), ("yolov4", 80), ("efficientdet_d0", 90), ("refinedet_vgg16_320", 0)], ids=lambda m: m[0]
)
def test_the_known_answer_of_coco(data_dir, tmp_path, monkeypatch, scorer, model):
    kept = results(monkeypatch)
    source = data_dir / "coco_known_answer"
    for name in ("instances_val2014_100.json", "instances_val2014_fakebbox100_results.json"):
        shutil.copy(source / name, tmp_path)
    flags = (f"--val_ann_file={tmp_path}/instances_val2014_100.json", f"--log_path={tmp_path}/out",
             f"--detections={tmp_path}/instances_val2014_fakebbox100_results.json", f"--scorer={scorer}")  # fmt: skip
    assert score(*flags, config=model[0], num_classes=model[1]) == 0
    assert list(kept[0].stats) == pytest.approx(KNOWN, rel=0, abs=1e-12)


@pytest.fixture
def coco(tmp_path):
    folder = CocoFolder(tmp_path / "data")
    folder.image_dir = folder.image_dir.rename(folder.root / "val")
    folder.ann_file = folder.ann_file.with_name("val.json")
    folder.add_image(1, 80, 60, boxes=[[0, 0, 40, 30]])
    folder.add_image(2, 80, 60, boxes=[[20, 10, 60, 50]])
    folder.write()
    records = [{**entry, "score": 0.9} for entry in folder.content["annotations"]]
    (folder.root / "found.json").write_text(json.dumps(records))
    return folder


def flags_of(folder, *more):
    return (f"--detections={folder.root}/found.json", f"--log_path={folder.root}/out", *more)


def by_folder(folder):
    return (f"--data_dir={folder.root}",)


def by_file(folder):
    return (f"--val_ann_file={folder.ann_file}",)


def by_file_in_folder(folder):
    return (f"--data_dir={folder.root}", "--val_ann_file=annotations/val.json")


def by_both(folder):
    return (f"--val_ann_file={folder.ann_file}", f"--val_image_dir={folder.root}/nowhere")


@pytest.mark.parametrize("skip", [(), ("--on_bad_image=skip",)], ids=["error", "skip"])
@pytest.mark.parametrize("where", [by_folder, by_file, by_file_in_folder, by_both])
@pytest.mark.parametrize("left", ["nothing", "empty folder", "damaged images", "all"])
def test_coco_without_images(coco, monkeypatch, where, left, skip):
    kept = results(monkeypatch)
    if left == "damaged images":
        for path in coco.image_dir.iterdir():
            path.write_bytes(b"")
    elif left != "all":
        shutil.rmtree(coco.image_dir)
        if left == "empty folder":
            coco.image_dir.mkdir()
    assert score(*flags_of(coco), *where(coco), *skip) == 0
    assert (kept[0].ap, kept[0].images) == (pytest.approx(1), 2)


@pytest.mark.parametrize("absent", [("width", "height"), ("file_name",), ("width", "height", "file_name")])
def test_coco_without_sizes_and_file_names(coco, monkeypatch, absent):
    kept = results(monkeypatch)
    shutil.rmtree(coco.image_dir)
    for image in coco.content["images"]:
        for key in absent:
            del image[key]
    coco.write()
    assert score(*flags_of(coco), *by_folder(coco)) == 0
    assert kept[0].ap == pytest.approx(1)


def test_boxes_are_checked_against_existing_images(coco, monkeypatch, capsys):
    """A box outside its image is an error as in training."""
    for image in coco.content["images"]:
        del image["width"], image["height"]
    coco.add_box(1, [70, 10, 60, 50])
    coco.write()
    assert score(*flags_of(coco), *by_folder(coco)) == 1
    assert "exceeds its image of 80x60" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--draw_images=1", "--result_view=True"])
def test_drawing_without_images_is_refused(coco, capsys, flag):
    shutil.rmtree(coco.image_dir)
    assert score(*flags_of(coco), *by_folder(coco), flag) == 1
    message = capsys.readouterr().err
    assert flag[2:].partition("=")[0] in message and "val" in message
    assert not list((coco.root / "out").glob("*/per_class.csv"))


def test_an_unreadable_image_is_not_drawn_with_on_bad_image_skip(coco, capsys):
    (coco.image_dir / "1.jpg").write_bytes(b"")
    assert score(*flags_of(coco), *by_folder(coco), "--draw_images=2", "--on_bad_image=skip") == 0
    assert "1.jpg is empty" in capsys.readouterr().out
    assert [path.name for path in coco.root.glob("out/*/pictures/*")] == ["2.jpg"]


def test_detections_of_unknown_categories_are_not_drawn(coco, monkeypatch):
    found = json.loads((coco.root / "found.json").read_text())
    (coco.root / "found.json").write_text(json.dumps([*found, {**found[0], "category_id": 99}]))
    assert score(*flags_of(coco), *by_folder(coco), "--draw_images=2") == 0
    assert len(list(coco.root.glob("out/*/pictures/*"))) == 2


def test_voc_needs_no_images(tmp_path, monkeypatch):
    kept = results(monkeypatch)
    root = formats.write_voc(tmp_path / "data")
    shutil.rmtree(root / "JPEGImages")
    found = [{"image_id": "a", "category_id": 17, "bbox": [1, 2, 10, 20], "score": 0.9},
             {"image_id": "a", "category_id": 58, "bbox": [30, 4, 11, 10], "score": 0.9},
             {"image_id": "c_d", "category_id": 58, "bbox": [0, 0, 32, 64], "score": 0.9}]  # fmt: skip
    (tmp_path / "found.json").write_text(json.dumps(found))
    flags = (f"--data_dir={root}", f"--detections={tmp_path}/found.json", f"--log_path={tmp_path}/out")
    assert score(*flags) == 0
    assert kept[0].ap == pytest.approx(1)


def test_lists_of_boxes_need_no_images(tmp_path, monkeypatch):
    kept = results(monkeypatch)
    root = formats.write_txt(tmp_path / "data")
    shutil.rmtree(root / "images")
    found = [{"image_id": "images/a.jpg", "category_id": 17, "bbox": [1, 2, 10, 20], "score": 0.9},
             {"image_id": "images/a.jpg", "category_id": 58, "bbox": [30, 4, 11, 10], "score": 0.9},
             {"image_id": "images/c d.jpg", "category_id": 58, "bbox": [0, 0, 32, 64], "score": 0.9}]  # fmt: skip
    (tmp_path / "found.json").write_text(json.dumps(found))
    flags = (f"--data_dir={root}", "--val_ann_file=val.txt", f"--detections={tmp_path}/found.json",
             f"--log_path={tmp_path}/out")  # fmt: skip
    assert score(*flags) == 0
    assert kept[0].ap == pytest.approx(1)


def test_yolo_labels_need_their_images(tmp_path, capsys):
    root = formats.write_yolo(tmp_path / "data", yaml="train: train.txt\nval: train.txt\n")
    (root / "train.txt").write_text("".join(f"images/train/{name}.jpg\n" for name in formats.IMAGES))
    (root / "images" / "train" / "a.jpg").unlink()
    (tmp_path / "found.json").write_text("[]")
    flags = (f"--data_dir={root}", f"--detections={tmp_path}/found.json", f"--log_path={tmp_path}/out")
    assert score(*flags) == 1
    assert "a.jpg" in capsys.readouterr().err
    assert score(*flags, "--on_bad_image=skip") == 0
