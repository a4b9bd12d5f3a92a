"""One rule for turned images in all formats and commands: a dataset that tells no sizes, read, checked and written."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from msdet.config import load_config
from msdet.data.formats.imagefolder import read_image_folder
from msdet.data.formats.mindrecord.image_folder import read_image_folder_records, to_detection_dataset
from msdet.data.formats.mindrecord.write import write_mindrecord
from msdet.data.loading.batch import BatchTask
from msdet.data.loading.class_batch import ClassBatches, PipelineTransform
from msdet.data.transforms.pipeline import plain_pipeline
from msdet.data.transforms.random_crop import CropFlipColour
from msdet.session.datasets import open_dataset
from msdet.tools.check import check
from msdet.tools.check.splits import check_detection

CONFIG = "configs/yolov3_shapes.yaml"
# The box of every format, in pixels of the upright image.
BOX = [10, 15, 30, 38]


def pixels():
    coarse = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    return cv2.resize(coarse, (60, 40), interpolation=cv2.INTER_CUBIC)


def save(path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels()).save(path, exif=exif)
    return path


def upright(path):
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image))


def yolo(root, orientation):
    image = save(root / "images" / "train" / "a.png", orientation)
    (root / "labels" / "train").mkdir(parents=True)
    width, height = Image.fromarray(upright(image)).size
    cx, cy = (BOX[0] + BOX[2]) / 2 / width, (BOX[1] + BOX[3]) / 2 / height
    line = f"0 {cx} {cy} {(BOX[2] - BOX[0]) / width} {(BOX[3] - BOX[1]) / height}\n"
    (root / "labels" / "train" / "a.txt").write_text(line)
    (root / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [cat]\n")
    return image, []


def txt(root, orientation):
    image = save(root / "images" / "a.png", orientation)
    (root / "train.txt").write_text(f"a.png {','.join(map(str, BOX))},0\n")
    return image, ["--dataset=txt", "--train_ann_file=train.txt", "--train_image_dir=images", "--class_names=cat"]


def coco(root, orientation, size=None):
    image = save(root / "train" / "a.png", orientation)
    entry = {"id": 1, "file_name": "a.png", **({"width": size[0], "height": size[1]} if size else {})}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 15, 20, 23], "area": 460, "iscrowd": 0}
    content = {"images": [entry], "annotations": [box], "categories": [{"id": 1, "name": "cat"}]}
    (root / "annotations").mkdir()
    (root / "annotations" / "train.json").write_text(json.dumps(content))
    return image, []


def config(root, flags):
    return load_config(CONFIG, ["--class_names=", "--num_classes=0", f"--data_dir={root}", *flags])


@pytest.mark.parametrize("orientation", [3, 6, 7, 8])
@pytest.mark.parametrize("write", [yolo, txt, coco])
def test_where_no_size_is_told_the_image_is_upright(tmp_path, write, orientation):
    image, flags = write(tmp_path / "data", orientation)
    want = upright(image)
    cfg = config(tmp_path / "data", flags)
    dataset, _ = open_dataset(cfg, "train")
    (sample,) = dataset.samples
    assert (sample.height, sample.width) == want.shape[:2]
    np.testing.assert_array_equal(dataset.decode(sample), want)
    np.testing.assert_allclose(sample.boxes, [BOX], atol=1e-3)
    (checked,) = check_detection(cfg, ["train"])
    found = [finding for finding in checked.report.findings if finding.kind == "EXIF rotation"]
    assert [finding.severity for finding in found] == ["note" if orientation in (6, 8) else "warning"]
    assert not checked.report.count("error")
    folder = write_mindrecord(dataset, tmp_path / "records", "train", shards=2)
    again, _ = open_dataset(config(folder.parent, ["--dataset=mindrecord", *flags[3:]]), "train")
    np.testing.assert_array_equal(again.decode(again.samples[0]), want)
    np.testing.assert_array_equal(again.samples[0].boxes, sample.boxes)


@pytest.mark.parametrize(("size", "is_stored"), [((60, 40), True), ((40, 60), False)])
def test_an_annotated_size_decides_and_goes_into_the_records(tmp_path, size, is_stored):
    image, flags = coco(tmp_path / "data", 6, size)
    dataset, _ = open_dataset(config(tmp_path / "data", flags), "train")
    want = pixels() if is_stored else upright(image)
    np.testing.assert_array_equal(dataset.decode(dataset.samples[0]), want)
    folder = write_mindrecord(dataset, tmp_path / "records", "train", shards=2)
    again, _ = open_dataset(config(folder.parent, ["--dataset=mindrecord"]), "train")
    np.testing.assert_array_equal(again.decode(again.samples[0]), want)


def test_a_cleaned_copy_keeps_what_the_check_saw(tmp_path):
    image, _ = coco(tmp_path / "data", 6)
    arguments = ["--config", CONFIG, "--class_names=", "--num_classes=0", f"--data_dir={tmp_path}/data"]
    assert check.main([*arguments, "--splits=train", f"--fix={tmp_path}/fixed"]) == 0
    written = json.loads((tmp_path / "fixed" / "train.json").read_text())
    assert (written["images"][0]["width"], written["images"][0]["height"]) == (40, 60)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_pictures_of_classifiers_are_upright_in_training_and_evaluation(tmp_path, suffix, orientation):
    path = save(tmp_path / "cat" / f"a.{suffix}", orientation)
    folder = read_image_folder(tmp_path)
    want = cv2.resize(upright(path), (32, 32))
    whole_crop = CropFlipColour(area=(1.0, 1.0), aspect=(upright(path).shape[1] / upright(path).shape[0],) * 2, flip=0,
                                colour=(0, 0, 0))  # fmt: skip
    for transform in (PipelineTransform(plain_pipeline("stretch")), whole_crop):
        maker = ClassBatches(folder, transform, 0)
        images = np.zeros((1, 32, 32, 3), np.uint8)
        maker.make(BatchTask(0, 0, (32, 32), np.array([0]), np.array([0])), images)
        assert np.abs(images[0].astype(int) - want).mean() < 8


def test_records_of_a_classifier_are_upright_too(tmp_path):
    path = save(tmp_path / "data" / "cat" / "a.jpg", 6)
    dataset = to_detection_dataset(read_image_folder(tmp_path / "data"))
    assert dataset.samples[0].boxes.tolist() == [[0, 0, 40, 60]]
    folder = write_mindrecord(dataset, tmp_path / "records", "train", shards=2)
    records = read_image_folder_records(Path(folder), "train")
    images = np.zeros((2, 32, 32, 3), np.uint8)
    for image, source in zip(images, (records, read_image_folder(tmp_path / "data")), strict=True):
        maker = ClassBatches(source, PipelineTransform(plain_pipeline("stretch")), 0)
        maker.make(BatchTask(0, 0, (32, 32), np.array([0]), np.array([0])), image[None])
    np.testing.assert_array_equal(images[0], images[1])
    assert np.abs(images[0].astype(int) - cv2.resize(upright(path), (32, 32))).mean() < 3
