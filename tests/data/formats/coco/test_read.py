"""Reading COCO files: ordinary cases, and a message for each thing that can be wrong."""

import json
import logging
import pickle
import time

import numpy as np
import pytest

from msdet.data.formats.coco.read import UNUSED_CLASS, read_coco
from msdet.errors import UsageError, UserError


def message(folder, **options):
    with pytest.raises(UserError) as caught:
        read_coco(*folder.write(), **options)
    text = str(caught.value)
    assert str(folder.ann_file) in text
    assert "\n" not in text
    return text


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


def test_crowds_can_be_left_out(coco):
    coco.add_image(1, boxes=[[1, 2, 10, 20]])
    coco.add_box(1, [30, 4, 10, 10], iscrowd=1)
    dataset = read_coco(*coco.write(), keep_crowd=False)
    assert len(dataset.samples[0].boxes) == 1
    assert dataset.report.crowds == 0


def test_text_ids_are_ordinary(coco):
    coco.add_image("kitchen/7", file_name="sub/folder/a.jpg", boxes=[[1, 1, 5, 5]])
    dataset = read_coco(*coco.write())
    assert dataset.samples[0].image_id == "kitchen/7"
    assert dataset.samples[0].image_path.is_file()


@pytest.mark.parametrize("absent", [{}, {"width": None, "height": None}, {"width": 0, "height": 0}])
def test_absent_sizes_are_read_from_the_files(coco, absent):
    coco.add_image(1, 80, 40, boxes=[[70, 30, 10, 10]])
    image = coco.content["images"][0]
    del image["width"], image["height"]
    image.update(absent)
    sample = read_coco(*coco.write()).samples[0]
    assert (sample.width, sample.height) == (80, 40)
    coco.add_box(1, [75, 0, 10, 10])
    assert "exceeds its image of 80x40 by 5 px" in message(coco)


def test_files_need_not_be_there_for_scoring(coco):
    coco.add_image(1, boxes=[[1, 1, 5, 5]])
    (coco.image_dir / "1.jpg").unlink()
    assert len(read_coco(*coco.write(), check_images=False)) == 1


def test_byte_order_mark_and_nan_elsewhere_are_tolerated(coco):
    coco.add_image(1, boxes=[[1, 1, 5, 5]])
    coco.content["annotations"][0]["area"] = float("nan")
    ann_file, image_dir = coco.write()
    ann_file.write_text("\ufeff" + ann_file.read_text())
    assert len(read_coco(ann_file, image_dir).samples[0].boxes) == 1


def test_label_map_of_ids(coco):
    coco.add_image(1, boxes=[[1, 1, 5, 5]], category_id=7)
    dataset = read_coco(*coco.write(), label_map="coco_id_minus_1")
    assert dataset.samples[0].labels.tolist() == [6]
    assert dataset.category_ids == [1, 2, 3, 4, 5, 6, 7]
    assert dataset.class_names[2] == "cat"
    assert dataset.class_names[6] == "dog"
    assert dataset.class_names[0] == UNUSED_CLASS
    coco.content["categories"][0]["id"] = 0
    assert "needs ids from 1" in message(coco, label_map="coco_id_minus_1")


def test_classes_of_the_configuration_decide_the_labels(coco, caplog):
    coco.add_image(1, boxes=[[1, 1, 5, 5]], category_id=7)
    dataset = read_coco(*coco.write(), ["dog", "horse", "cat"])
    assert dataset.samples[0].labels.tolist() == [0]
    assert dataset.class_names == ["dog", "horse", "cat"]
    assert dataset.category_ids[0] == 7
    assert dataset.category_ids[2] == 3
    assert dataset.category_ids[1] not in (3, 7)
    assert "no category 'horse'" in caplog.text


def test_an_unknown_category_matters_only_where_it_is_used(coco):
    coco.content["categories"].append({"id": 9, "name": "motorbike"})
    coco.add_image(1, boxes=[[1, 1, 5, 5]])
    read_coco(*coco.write(), ["cat", "dog"])
    coco.add_box(1, [1, 1, 5, 5], 9)
    text = message(coco, class_names=["cat", "motorcycle", "dog"])
    assert "annotation 2" in text
    assert "image 1" in text
    assert "'motorbike'" in text
    assert "did you mean 'motorcycle'?" in text


def test_test_files_without_annotations(coco):
    coco.add_image(1)
    del coco.content["annotations"]
    assert "'annotations'" in message(coco)
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
def test_files_that_are_no_annotations(coco, text, expected):
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


def test_missing_images_are_counted_and_named(coco):
    for number in range(6):
        coco.add_image(number)
    for number in (0, 2, 3, 5):
        (coco.image_dir / f"{number}.jpg").unlink()
    text = message(coco)
    assert "4 of 6 images" in text
    assert "0.jpg, 2.jpg, 3.jpg, ..." in text


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/passwd", "sub/../../a.jpg", "..", "..\\a.jpg", "C:\\a.jpg", "a\0b"])
def test_file_names_stay_in_the_folder(coco, name):
    coco.add_image(1)
    coco.content["images"][0]["file_name"] = name
    text = message(coco)
    assert "points outside the image folder" in text
    assert repr(name) in text


BAD_BOXES = [
    ([1, 1, 0, 5], "has no area"),
    ([1, 1, 5, 0.0], "has no area"),
    ([1, 1, 1e-9, 5], "has no area"),
    ([1, 1, -3, 5], "negative width or height"),
    ([60, 1, 6, 5], "exceeds its image of 64x48 by 2 px"),
    ([-1.5, 1, 6, 5], "by 1.5 px"),
    ([100, 100, 5, 5], "exceeds its image"),
    ([float("nan"), 1, 6, 5], "is not four finite numbers"),
    ([1, 1, float("inf"), 5], "is not four finite numbers"),
    ([1, 2, 3], "is not four finite numbers"),
    ([1, 2, 3, "4"], "is not four finite numbers"),
    ([1, 2, 3, True], "is not four finite numbers"),
    ([1, 2, 3, None], "is not four finite numbers"),
    ([1, 2, 3, [4]], "is not four finite numbers"),
    ([10**400, 2, 3, 4], "is not four finite numbers"),
    ("1 2 3 4", "is not four finite numbers"),
    ([], "is not four finite numbers"),
]


@pytest.mark.parametrize(("bbox", "expected"), BAD_BOXES)
def test_bad_boxes_are_errors_or_counted(coco, caplog, bbox, expected):
    coco.add_image(1, boxes=[[2, 2, 10, 10]])
    coco.add_box(1, bbox)
    text = message(coco)
    assert expected in text
    assert "annotation 2" in text
    assert "image 1 (1.jpg)" in text
    assert "on_bad_box=skip" in text
    with caplog.at_level(logging.WARNING):
        dataset = read_coco(*coco.write(), on_bad_box="skip")
    assert len(dataset.samples[0].boxes) == 1
    assert dataset.report.skipped == 1
    assert "skipped 1 bad boxes" in caplog.text
    assert "annotation 2" in caplog.text


def test_many_bad_boxes_are_counted_and_the_first_named(coco):
    coco.add_image(1, boxes=[[1, 1, 0, 0]] * 10)
    text = message(coco)
    assert "has 10 problems" in text
    assert "and 7 more" in text
    assert "annotation 3" in text
    assert "annotation 4" not in text


def test_line_numbers_are_told_where_there_are_lines(coco):
    coco.add_image(1, boxes=[[1, 1, 5, 5], [1, 1, 0, 5]])
    coco.write(indent=1)
    with pytest.raises(UserError) as caught:
        read_coco(coco.ann_file, coco.image_dir)
    line = int(str(caught.value).partition("(line ")[2].partition(")")[0])
    assert coco.ann_file.read_text().splitlines()[line - 1].strip() == '"id": 2,'


def test_boxes_out_by_rounding_are_cut_and_counted(coco, caplog):
    coco.add_image(1, boxes=[[-0.5, 0, 64.9, 48.99], [10, 10, 54.0000001, 10], [1, 1, 5, 5]])
    with caplog.at_level(logging.INFO):
        dataset = read_coco(*coco.write())
    np.testing.assert_array_equal(dataset.samples[0].boxes, [[0, 0, 64, 48], [10, 10, 64, 20], [1, 1, 6, 6]])
    assert dataset.report.clipped == 1
    assert sum("exceeded their image" in record.message for record in caplog.records) == 1


def test_the_two_defects_of_coco_itself_do_not_stop_anyone(coco):
    coco.add_image(200365, 640, 480, boxes=[[1, 1, 5, 5]])
    coco.add_box(200365, [296.65, 388.33, 1.03, 0.0], id=918)
    dataset = read_coco(*coco.write())
    assert len(dataset.samples[0].boxes) == 1
    assert dataset.report.skipped == 1
    coco.content["annotations"][1]["bbox"] = [296, 388.33, 1.03, 0.0]
    assert "has no area" in message(coco)


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    [
        ("images", {"id": None}, "image 0 has no id"),
        ("images", {"id": [1]}, "has the id [1]"),
        ("images", {"id": 1.5}, "has the id 1.5"),
        ("images", {"file_name": None}, "image 1 has no file_name"),
        ("images", {"width": "64"}, "image 1 has width '64'"),
        ("images", {"width": -64}, "image 1 has width -64"),
        ("images", {"height": 48.5}, "height 48.5"),
        ("annotations", {"id": None}, "at position 0: the key 'id' is missing"),
        ("annotations", {"bbox": None, "category_id": None}, "annotation 1: the key 'category_id' and 'bbox'"),
        ("annotations", {"image_id": 99}, "annotation 1: no image has the id 99"),
        ("annotations", {"image_id": "1"}, "but one has the id 1: integer and string ids differ"),
        ("annotations", {"image_id": [1]}, "no image has the id [1]"),
        ("annotations", {"category_id": 4}, "image 1: no category has the id 4"),
        ("annotations", {"category_id": {}}, "no category has the id {}"),
        ("annotations", {"iscrowd": 2}, "iscrowd is 2"),
        ("annotations", {"id": 1.5}, "neither an integer nor a string"),
        ("categories", {"id": None}, "category 0 needs an integer 'id'"),
        ("categories", {"name": 5}, "category 0 needs an integer 'id' and a string 'name'"),
        ("categories", {"id": 7}, "the category id 7 occurs 2 times"),
    ],
)
def test_broken_entries_are_named(coco, kind, change, expected):
    coco.add_image(1, boxes=[[1, 1, 5, 5]])
    entry = coco.content[kind][0]
    entry.update(change)
    for key in [key for key, value in change.items() if value is None]:
        del entry[key]
    assert expected in message(coco)


def test_of_two_categories_of_one_name_the_one_with_boxes_counts(coco, caplog):
    coco.add_image(1, boxes=[[1, 1, 5, 5]])
    used = coco.content["annotations"][0]["category_id"]
    name = next(c["name"] for c in coco.content["categories"] if c["id"] == used)
    coco.content["categories"].insert(0, {"id": 0, "name": name, "supercategory": "none"})
    dataset = read_coco(*coco.write())
    assert dataset.category_ids.count(used) == 1 and 0 not in dataset.category_ids
    assert f"the category {name!r} has two ids; ignoring 0, which no box uses" in caplog.text
    coco.add_box(1, [2, 2, 5, 5], category_id=0)
    assert f"the category name {name!r} occurs 2 times. msdet check --fix OUT" in message(coco)


def test_ids_occur_once(coco):
    coco.add_image(1, boxes=[[1, 1, 5, 5]])
    coco.add_image(1, file_name="b.jpg")
    assert "the image id 1 occurs 2 times" in message(coco)
    coco.content["images"][1]["id"] = 2
    coco.add_box(2, [1, 1, 5, 5], id=1)
    assert "the annotation id 1 occurs 2 times" in message(coco)


@pytest.mark.parametrize(
    "options", [{"label_map": "sparse"}, {"on_bad_box": "ignore"}, {"class_names": ["cat", "dog", "cat"]}]
)
def test_arguments_that_do_not_exist(coco, options):
    coco.add_image(1)
    with pytest.raises(UsageError):
        read_coco(*coco.write(), **options)


def test_a_dataset_survives_pickling(many):
    dataset = read_coco(many.ann_file, many.image_dir)
    again = pickle.loads(pickle.dumps(dataset))
    assert len(again) == len(dataset)
    assert (again.class_names, again.category_ids, again.report) == (
        dataset.class_names,
        dataset.category_ids,
        dataset.report,
    )
    for one, other in zip(dataset.samples, again.samples, strict=True):
        assert (one.image_path, one.image_id, one.width, one.height) == (
            other.image_path,
            other.image_id,
            other.width,
            other.height,
        )
        for name in ("boxes", "labels", "iscrowd"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            assert getattr(one, name).dtype == getattr(other, name).dtype


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
def test_the_size_of_coco_is_read_in_seconds(tmp_path):
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


@pytest.mark.parametrize(("overhang", "clipped"), [(0.004, 1), (1e-7, 0)])
def test_a_small_overhang_is_cut_and_told_and_that_of_a_sum_is_not(coco, overhang, clipped):
    coco.add_image(1, boxes=[[44.5, 8, 19.5 + overhang, 20]])
    dataset = read_coco(*coco.write())
    assert dataset.report.clipped == clipped
    expected = [44.5, 8, 19.5, 20] if clipped else [44.5, 8, 19.5 + overhang, 20]
    assert dataset.xywh.tolist() == [expected]


def test_what_only_scorers_need_does_not_travel_to_workers(many):
    dataset = read_coco(many.ann_file, many.image_dir)
    assert dataset.xywh is not None
    again = pickle.loads(pickle.dumps(dataset))
    assert again.xywh is None and again.areas is None


def test_without_difficult_objects_and_without_images_all_columns_agree(coco):
    coco.add_image(1, boxes=[[1, 2, 10, 20]], category_id=7)
    coco.add_box(1, [2, 2, 11, 21], difficult=1, area=5)
    coco.add_box(1, [3, 2, 12, 22], iscrowd=1, area=6)
    coco.add_image(2, boxes=[[4, 2, 13, 23]])
    coco.add_box(2, [5, 2, 14, 24], difficult=1, iscrowd=1, area=7)
    dataset = read_coco(*coco.write())
    easy = dataset.without_difficult()
    assert [sample.boxes[:, 0].tolist() for sample in easy.samples] == [[1, 3], [4]]
    assert [sample.iscrowd.tolist() for sample in easy.samples] == [[False, True], [False]]
    assert [sample.labels.tolist() for sample in easy.samples] == [[1, 0], [0]]
    assert not any(sample.difficult.any() for sample in easy.samples)
    assert easy.xywh[:, 0].tolist() == [1, 3, 4]
    np.testing.assert_array_equal(easy.areas, [np.nan, 6, np.nan])
    second = dataset.without_images([0])
    assert [sample.image_id for sample in second.samples] == [2] and second.skipped_image_ids == {1}
    assert second.xywh[:, 0].tolist() == [4, 5]
    np.testing.assert_array_equal(second.areas, [np.nan, 7])
    assert dataset.without_images([]) is dataset


@pytest.mark.parametrize(
    "area", [float("nan"), float("inf"), "12", None, 10**400, 1.1e10, -1, -1e-9, True, False, [12], {}]
)
def test_an_area_that_is_no_number_of_px_is_none(coco, area):
    """Scores by size take width x height then."""
    coco.add_image(1, boxes=[[1, 2, 10, 20]])
    coco.content["annotations"][0]["area"] = area
    assert read_coco(*coco.write()).areas is None
    coco.add_box(1, [3, 2, 12, 22], area=0)
    coco.add_box(1, [3, 3, 12, 22], area=12.5)
    np.testing.assert_array_equal(read_coco(*coco.write()).areas, [np.nan, 0, 12.5])
