"""Reading COCO files."""

import json
import pickle
import time

import numpy as np
import pytest

from msdet.data.formats.coco.read import read_coco
from msdet.errors import UserError
from tests.data.conftest import coco_error


def test_reads_boxes_labels_and_crowds(coco):
    coco.add_image(5, boxes=[[1, 2, 10, 20]])
    coco.add_image(6)
    coco.add_image(2, boxes=[[0, 0, 64, 48]], category_id=7)
    coco.add_box(5, [30.5, 4, 10, 10.25], 7, iscrowd=1)
    dataset = read_coco(*coco.write())
    assert dataset.class_names == ["cat", "dog"]
    assert dataset.category_ids == [3, 7]
    assert [sample.image_id for sample in dataset.samples] == [5, 6, 2]
    first, empty, last = dataset.samples
    np.testing.assert_array_equal(first.boxes, [[1, 2, 11, 22], [30.5, 4, 40.5, 14.25]])
    assert first.boxes.dtype == np.float32
    assert first.labels.tolist() == [0, 1]
    assert first.labels.dtype == np.int32
    assert first.iscrowd.tolist() == [False, True]
    assert first.targets()[0].shape == (1, 4)
    assert empty.boxes.shape == (0, 4)
    assert empty.labels.shape == (0,)
    assert last.labels.tolist() == [1]
    assert (last.width, last.height) == (64, 48)
    report = dataset.report
    assert (report.images, report.boxes, report.crowds, report.images_without_boxes) == (3, 2, 1, 1)


def test_crowds_can_be_removed(coco):
    coco.add_image(1, boxes=[[1, 2, 10, 20]])
    coco.add_box(1, [30, 4, 10, 10], iscrowd=1)
    dataset = read_coco(*coco.write(), keep_crowd=False)
    assert len(dataset.samples[0].boxes) == 1
    assert dataset.report.crowds == 0


def test_string_ids_are_allowed(coco):
    coco.add_image("kitchen/7", file_name="sub/folder/a.jpg", boxes=[[1, 1, 5, 5]])
    dataset = read_coco(*coco.write())
    assert dataset.samples[0].image_id == "kitchen/7"
    assert dataset.samples[0].image_path.is_file()


def test_byte_order_mark_and_nan_outside_of_boxes_are_allowed(coco):
    coco.add_image(1, boxes=[[1, 1, 5, 5]])
    coco.content["annotations"][0]["area"] = float("nan")
    ann_file, image_dir = coco.write()
    ann_file.write_text("\ufeff" + ann_file.read_text())
    assert len(read_coco(ann_file, image_dir).samples[0].boxes) == 1


def test_files_that_list_images_only(coco):
    coco.add_image(1)
    del coco.content["annotations"]
    assert "'annotations'" in coco_error(coco)
    assert len(read_coco(*coco.write(), require_annotations=False)) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ('{"images": [\n  {"id": 1},,\n', "not JSON: Expecting value at line 2 column 13"),
        ("\udcff\udcfe{}", "is not JSON"),
        ("[]", "not a COCO annotation file"),
        ('{"images": {}}', "not a COCO annotation file"),
        ('{"images": []}', "'categories'"),
        ('{"images": [], "annotations": [], "categories": []}', "lists no images"),
        ("[" * 100_000, "annotations"),
        ('{"images": [{"id": NaN, "width": ' + "9" * 5000 + "}]}", "not a COCO annotation file"),
        ('{"images": [{"id": ' + "9" * 5000 + "}]}", "not a COCO annotation file"),
    ],
)
def test_files_that_are_not_coco_annotations(coco, text, expected):
    coco.ann_file.write_text(text, errors="surrogateescape")
    with pytest.raises(UserError, match="annotation file") as caught:
        read_coco(coco.ann_file, coco.image_dir)
    assert expected in str(caught.value)


def test_missing_file_and_folder(coco, tmp_path):
    coco.add_image(1)
    ann_file, _ = coco.write()
    with pytest.raises(UserError, match=r"nowhere\.json is missing"):
        read_coco(tmp_path / "nowhere.json", coco.image_dir)
    with pytest.raises(UserError, match="image folder .*nowhere of .* is missing"):
        read_coco(ann_file, tmp_path / "nowhere")


def test_real_annotations_agree_with_pycocotools(data_dir):
    pycocotools = pytest.importorskip("pycocotools.coco")
    ann_file = data_dir / "coco_mini" / "annotations" / "instances_val2017.json"
    dataset = read_coco(ann_file, data_dir / "coco_mini" / "val2017")
    truth = pycocotools.COCO(str(ann_file))
    assert len(dataset) == len(truth.imgs)
    assert len(dataset.class_names) == 80
    assert dataset.report.clipped == dataset.report.skipped == 0
    for sample in dataset.samples:
        annotations = truth.imgToAnns[sample.image_id]
        boxes = np.array([annotation["bbox"] for annotation in annotations]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose(sample.boxes, boxes, atol=1e-4)
        ids = [dataset.category_ids[label] for label in sample.labels]
        assert ids == [annotation["category_id"] for annotation in annotations]
        assert sample.iscrowd.tolist() == [bool(annotation["iscrowd"]) for annotation in annotations]


@pytest.mark.slow
def test_files_of_the_size_of_coco_are_read_in_seconds(tmp_path):
    rng = np.random.default_rng(0)
    count, boxes = 118_287, 860_001
    images = [{"id": n, "file_name": f"{n:012d}.jpg", "width": 640, "height": 480} for n in range(count)]
    owners = rng.integers(0, count, boxes).tolist()
    outline = [round(float(x), 2) for x in rng.uniform(0, 400, 40)]
    annotations = [
        {
            "segmentation": [outline],
            "area": 100.0,
            "iscrowd": 0,
            "image_id": owner,
            "bbox": [12.5, 3.25, 100.01, 200.02],
            "category_id": n % 80 + 1,
            "id": n,
        }
        for n, owner in enumerate(owners)
    ]
    categories = [{"id": n + 1, "name": f"class {n}"} for n in range(80)]
    ann_file = tmp_path / "big.json"
    ann_file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    (tmp_path / "images").mkdir()
    for image in images:
        (tmp_path / "images" / image["file_name"]).touch()
    begin = time.process_time()
    dataset = read_coco(ann_file, tmp_path / "images")
    assert time.process_time() - begin < 30
    assert dataset.report.boxes == boxes
    begin = time.process_time()
    pickle.loads(pickle.dumps(dataset))
    assert time.process_time() - begin < 10
