"""Datasets of a configuration: every annotation format, MindRecord folders, and the loaders' options."""

import numpy as np
import pytest

from msdet.config import load_config
from msdet.data.formats.coco.write import coco_of
from msdet.data.formats.mindrecord.read import fingerprint
from msdet.data.loading.loaders import class_loader
from msdet.data.transforms.random_crop import CropFlipColour
from msdet.errors import UsageError, UserError
from msdet.evaluation.coco.truth import ground_truth
from msdet.models.recipe import get_recipe
from msdet.runtime.start import Runtime
from msdet.session.datasets import evaluation_loader, open_dataset, training_loader
from msdet.tools import create_data
from tests.data import all_formats as formats
from tests.data.conftest import CocoFolder, write_image

CONFIG = "configs/yolov3_shapes.yaml"


def config(*flags, script="train"):
    return load_config(CONFIG, ["--class_names=", "--num_classes=0", *flags], script)


def test_the_old_names_of_folders_and_files(tmp_path):
    formats.write_txt(tmp_path)
    flags = ["--dataset=other", f"--anno_path={tmp_path}/train.txt", f"--image_dir={tmp_path}"]
    for script, split in (("train", "train"), ("eval", "val")):
        dataset, cfg = open_dataset(config(*flags, script=script), split)
        assert (dataset.format, cfg.num_classes, cfg.class_names) == ("txt", 2, formats.NAMES)
    formats.write_voc(tmp_path / "voc")
    assert open_dataset(config(f"--voc_root={tmp_path}/voc"), "val")[0].format == "voc"
    with pytest.raises(UsageError, match="data_dir is empty"):
        open_dataset(config(), "train")


def test_configured_classes_are_compared_with_those_of_the_data(tmp_path):
    formats.write_voc(tmp_path)
    with pytest.raises(UserError, match="the category 'hot dog' is not among the classes .*did you mean 'hotdog'"):
        open_dataset(config(f"--data_dir={tmp_path}", "--class_names=cat,hotdog"), "train")


def test_other_formats_are_scored_as_read(tmp_path):
    formats.write_voc(tmp_path)
    dataset, _ = open_dataset(config(f"--data_dir={tmp_path}"), "val")
    truth = ground_truth(dataset)
    assert (truth.image_ids, truth.category_ids, truth.names) == (["a", "b", "c_d"], [17, 58], ["cat", "hot dog"])
    assert truth.images.tolist() == [1, 1, 3] and truth.labels.tolist() == [1, 2, 2]
    assert truth.boxes.tolist() == [[1, 2, 10, 20], [30, 4, 11, 10], [0, 0, 32, 64]]
    assert truth.areas.tolist() == [200, 110, 2048] and not truth.iscrowd.any()
    assert coco_of(dataset)["annotations"][1] == {
        "id": 2, "image_id": "a", "category_id": 58, "bbox": [30, 4, 11, 10], "area": 110, "iscrowd": 0, "difficult": 1,
    }  # fmt: skip


def test_mindrecord_files_are_created_once_reused_and_refused_when_outdated(tmp_path):
    root, folder = formats.write_voc(tmp_path / "voc"), tmp_path / "records"
    flags = [f"--data_dir={root}", f"--mindrecord_dir={folder}"]
    files = open_dataset(config(flags[0]), "train")[0]
    first, _ = open_dataset(config(*flags), "train")
    made = (folder / "train" / "train.mindrecord0").stat().st_mtime_ns
    second, cfg = open_dataset(config(*flags), "train")
    assert (folder / "train" / "train.mindrecord0").stat().st_mtime_ns == made
    assert first.format == second.format == "mindrecord"
    assert cfg.class_names == formats.NAMES
    assert fingerprint(first) == fingerprint(second) == fingerprint(files)
    assert not (folder / "val").exists()
    assert open_dataset(config(*flags), "val")[0].format == "voc"
    path = root / "Annotations" / "a.xml"
    path.write_text(path.read_text().replace("<xmin>2</xmin>", "<xmin>3</xmin>"))
    with pytest.raises(UserError, match="was made from other annotations or classes"):
        open_dataset(config(*flags), "train")
    alone = [f"--mindrecord_dir={folder}"]
    assert fingerprint(open_dataset(config(*alone), "train")[0]) == fingerprint(files)
    assert len(open_dataset(config(*alone, "--dataset=mindrecord"), "train")[0]) == 3
    with pytest.raises(UserError, match="contains no MindRecord files of the split 'val'"):
        open_dataset(config(*alone, "--dataset=mindrecord"), "val")
    with pytest.raises(UserError, match="the category 'hot dog' is not among the classes"):
        open_dataset(config(*alone, "--class_names=cat"), "train")


def test_changed_areas_make_mindrecord_files_outdated(tmp_path):
    """They determine the scores by size."""
    coco = CocoFolder(tmp_path / "data")
    coco.add_image(1, boxes=[[1.1, 2.2, 30.3, 20.7]])
    coco.add_box(1, [5, 5, 20, 20], area=123.4)
    coco.write()
    flags = [f"--data_dir={coco.root}", f"--mindrecord_dir={tmp_path}/records"]
    made = ground_truth(open_dataset(config(*flags), "train")[0])
    assert made.areas.tolist() == [30.3 * 20.7, 123.4]
    np.testing.assert_array_equal(made.boxes, ground_truth(open_dataset(config(flags[0]), "train")[0]).boxes)
    open_dataset(config(*flags), "train")
    coco.content["annotations"][1]["area"] = 2000
    coco.write()
    with pytest.raises(UserError, match="was made from other annotations or classes"):
        open_dataset(config(*flags), "train")


def test_image_folders_as_mindrecord(tmp_path, capsys):
    for split in ("train", "val"):
        for number, name in enumerate(("cow", "cat", "dog")):
            write_image(tmp_path / "data" / split / name / f"{split}.jpg", 50 + number, 40, seed=number + len(split))
    base = ["--num_classes=0", "--training_shape=32"]

    def opened(*flags, split="train"):
        cfg = load_config("configs/darknet53_imagenet.yaml", [*base, *flags])
        return open_dataset(cfg, split)[0]

    flags = ["--config", "configs/darknet53_imagenet.yaml", *base, f"--data_dir={tmp_path}/data"]
    assert create_data.main([*flags, f"--mindrecord_dir={tmp_path}/a"]) == 0
    assert "3 images, 3 boxes" in capsys.readouterr().out
    files = opened(f"--data_dir={tmp_path}/data")
    made = opened(f"--data_dir={tmp_path}/data", f"--mindrecord_dir={tmp_path}/b")
    for records in (made, opened(f"--data_dir={tmp_path}/a"), opened(f"--mindrecord_dir={tmp_path}/b")):
        assert (records.class_names, records.files) == (files.class_names, files.files)
        assert records.fingerprint() == files.fingerprint()
        assert records.labels.tolist() == files.labels.tolist()
        assert records.store.read(records[1].image_path) == files[1].image_path.read_bytes()
        pairs = []
        for dataset in (files, records):
            with class_loader(dataset, CropFlipColour(), 3, [(32, 32)], training=True, num_workers=0) as loader:
                pairs.append([batch.images.copy() for batch in loader.epoch(0)])
        np.testing.assert_array_equal(*pairs)
    with pytest.raises(UserError, match="contains no MindRecord files of the split 'val'"):
        opened(f"--mindrecord_dir={tmp_path}/b", "--dataset=mindrecord", split="val")
    assert opened(f"--data_dir={tmp_path}/a", "--dataset=mindrecord", split="val").files == [
        "cat/val.jpg",
        "cow/val.jpg",
        "dog/val.jpg",
    ]
    (tmp_path / "data" / "train" / "cat" / "train.jpg").rename(tmp_path / "data" / "train" / "cat" / "other.jpg")
    with pytest.raises(UserError, match="was made from other images or classes"):
        opened(f"--data_dir={tmp_path}/data", f"--mindrecord_dir={tmp_path}/b")
    formats.write_voc(tmp_path / "voc")
    detectors = ["--config", CONFIG, "--class_names=", "--num_classes=0", f"--data_dir={tmp_path}/voc"]
    assert create_data.main([*detectors, f"--mindrecord_dir={tmp_path}/c", "--splits=train"]) == 0
    with pytest.raises(UserError, match="contains a detection dataset, not one class per image"):
        opened(f"--data_dir={tmp_path}/c")
    with pytest.raises(UserError, match="differ from the configured classes"):
        opened(f"--data_dir={tmp_path}/a", "--class_names=cat,cow,pig")


def test_keys_reach_the_loaders(monkeypatch):
    def made(*samples, is_stopped, **options):
        assert not is_stopped()
        return samples, options

    monkeypatch.setattr("msdet.session.datasets.detection_loader", made)
    cfg = config(
        "--per_batch_size=3", "--eval_batch_size=5", "--training_shape=96", "--testing_shape=64", "--resize_rate=7",
        "--max_boxes=11", "--cut_boxes=True", "--max_image_pixels=1000", "--on_bad_image=skip", "--seed=4",
        "--num_parallel_workers=2", "--data_timeout=9",
    )  # fmt: skip
    both = {"max_boxes": 11, "max_image_pixels": 1000, "on_bad_image": "skip", "seed": 4, "num_workers": 2,
            "stall_timeout": 9.0, "rank": 1, "group_size": 3}  # fmt: skip
    runtime = Runtime("CPU", rank=1, group_size=3)
    training = {"resize_rate": 7, "cut_boxes": True, "training": True, "mosaic": "four in one"}
    place = ("samples", "steps", 3, ((96, 96),))
    assert training_loader(cfg, "samples", "steps", runtime, mosaic="four in one") == (place, both | training)
    # Scores need every ground truth.
    place = ("samples", "steps", 5, [(64, 64)])
    assert evaluation_loader(cfg, "samples", "steps", runtime) == (place, both | {"training": False})


@pytest.mark.parametrize(("shapes", "rows"), [("off", {8}), ("on", {4, 8})])
def test_static_shapes_raise_max_boxes_to_the_most_crowded_image(tmp_path, caplog, shapes, rows):
    """No later batch has more rows of boxes, and no box is dropped."""
    caplog.set_level("INFO")
    folder = CocoFolder(tmp_path)
    boxes = [[4 * i, 4, 30, 30] for i in range(7)]
    for number in range(6):
        folder.add_image(number, 64, 64, boxes=boxes if number == 4 else boxes[:1])
    folder.write()
    flags = [f"--train_image_dir={folder.image_dir}", f"--train_ann_file={folder.ann_file}", "--max_boxes=4",
             f"--dynamic_shapes={shapes}", "--training_shape=64", "--per_batch_size=1", "--num_parallel_workers=0",
             "--jitter=0"]  # fmt: skip
    dataset, cfg = open_dataset(config(*flags), "train")
    with training_loader(cfg, dataset, get_recipe(cfg).train_pipeline(), Runtime("CPU")) as loader:
        batches = [(batch.boxes.shape[1], int((batch.labels >= 0).sum())) for batch in loader.epoch(0)]
    assert {shape for shape, _ in batches} == rows
    assert sorted(count for _, count in batches) == [1, 1, 1, 1, 1, 7] and loader.boxes_cut == 0
    assert ("max_boxes is raised to 8: an image has 7 boxes" in caplog.text) == (shapes == "off")


def test_images_without_annotations_are_kept_or_skipped(tmp_path, caplog):
    """The published trainings of YOLO skipped images without any annotation, and no others."""
    coco = CocoFolder(tmp_path / "data")
    coco.add_image(1, boxes=[[1, 1, 20, 20]])
    coco.add_image(2)
    coco.add_image(3)
    coco.add_box(3, [2, 2, 30, 30], iscrowd=1)
    coco.write()
    flags = [f"--train_ann_file={coco.ann_file}", f"--train_image_dir={coco.image_dir}"]
    flags += [f"--val_ann_file={coco.ann_file}", f"--val_image_dir={coco.image_dir}"]
    caplog.set_level("INFO")
    kept = {True: [1, 2, 3], False: [1, 3]}
    for keep, ids in kept.items():
        dataset, _ = open_dataset(config(*flags, f"--keep_empty_images={keep}"), "train")
        assert [sample.image_id for sample in dataset.samples] == ids
        assert len(ground_truth(dataset).areas) == 2
    assert "1 of 3 images have no annotation and are skipped (--keep_empty_images)" in caplog.text
    assert len(open_dataset(config(*flags, "--keep_empty_images=0"), "val")[0].samples) == 3
    coco.content["annotations"] = []
    coco.write()
    with pytest.raises(UserError, match="no image has an annotation"):
        open_dataset(config(*flags, "--keep_empty_images=0"), "train")


def test_the_recipes_skip_the_same_images_as_the_published_trainings():
    """1,832, 320 and 641 steps per epoch are those of images with annotations; EfficientDet's 7,392 of all images."""
    kept = {
        name: load_config(f"configs/{name}.yaml").keep_empty_images
        for name in ("yolov4", "yolov3", "yolov3_quant", "yolov4_finetune", "yolov3_shapes", "efficientdet_d0_seed")
    }
    assert [name for name, keeps in kept.items() if not keeps] == ["yolov4", "yolov3", "yolov3_quant"]
    with_annotations = {
        "yolov4": (117_266, 64, 1_832),
        "yolov3": (82_081, 256, 320),
        "yolov3_quant": (82_081, 128, 641),
    }
    for name, (images, batch, steps) in with_annotations.items():
        assert load_config(f"configs/{name}.yaml").per_batch_size * 8 == batch and images // batch == steps


def test_old_names_of_files_work_for_coco_as_well(tmp_path):
    """In the old zoo they applied to other formats only."""
    coco = CocoFolder(tmp_path / "data")
    coco.add_image(1, boxes=[[1, 1, 20, 20]])
    coco.write()
    flags = [
        "--dataset=coco",
        f"--data_dir={tmp_path}",
        f"--anno_path={coco.ann_file}",
        f"--image_dir={coco.image_dir}",
    ]
    for script, split in (("train", "train"), ("eval", "val")):
        dataset, _ = open_dataset(config(*flags, script=script), split)
        assert (dataset.format, str(dataset.ann_file), str(dataset.image_dir)) == (
            "coco", str(coco.ann_file), str(coco.image_dir),
        )  # fmt: skip
