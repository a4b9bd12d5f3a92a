"""Keys of the dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from msdet.config.key import ALL_COMMANDS, DATA_COMMANDS, TRAINING_COMMANDS, key

# More classes than any dataset has: a larger number is a typing error, and each class adds outputs to the network.
MAX_CLASSES = 10_000


@dataclass(frozen=True)
class DataKeys:
    """Dataset"""

    COMMANDS: ClassVar[tuple[str, ...]] = DATA_COMMANDS

    data_dir: str = key("", "dataset folder", path=True, affects_training=False)
    dataset: str = key(
        "auto",
        "annotation format: coco, voc, yolo, txt or mindrecord, or an old name (voc0712, voc0712plus; other for txt); "
        "auto: detected and logged",
        affects_training=False,
    )


@dataclass(frozen=True)
class DataFileKeys:
    """Files of the dataset"""

    COMMANDS: ClassVar[tuple[str, ...]] = DATA_COMMANDS
    ADVANCED_IN: ClassVar[tuple[str, ...]] = ALL_COMMANDS

    layout: str = key(
        "auto",
        "names of the COCO files in data_dir",
        choices=("auto", "coco2017", "coco2014", "plain", "coco2017_instance", "coco2017_images", "roboflow"),
        affects_training=False,
    )
    train_image_dir: str = key("", "training image folder; empty: found in data_dir", path=True, affects_training=False)
    train_ann_file: str = key(
        "", "training annotation file; empty: found in data_dir", path=True, affects_training=False
    )
    val_image_dir: str = key("", "validation image folder; empty: found in data_dir", path=True, affects_training=False)
    val_ann_file: str = key(
        "", "validation annotation file; empty: found in data_dir", path=True, affects_training=False
    )
    test_image_dir: str = key(
        "", "image folder of test.py; empty: found in data_dir", path=True, affects_training=False
    )
    test_ann_file: str = key("", "image list of test.py; empty: found in data_dir", path=True, affects_training=False)
    mindrecord_dir: str = key(
        "",
        "folder of MindRecord files: read if it holds some, else created from data_dir; empty: not used",
        path=True,
        affects_training=False,
    )


@dataclass(frozen=True)
class ClassKeys:
    """Classes"""

    ADVANCED_IN: ClassVar[tuple[str, ...]] = ("eval", "test", "postprocess", "predict", "export")

    class_names: tuple[str, ...] = key((), "object class names in label order; empty: those of the annotation file")
    num_classes: int = key(
        0, "number of object classes, without background; 0: the number of class_names", minimum=0, maximum=MAX_CLASSES
    )
    label_map: str = key(
        "dense",
        "label of a category: its index in class_names, or its COCO id - 1",
        choices=("dense", "coco_id_minus_1"),
    )


@dataclass(frozen=True)
class SampleKeys:
    """Training samples"""

    COMMANDS: ClassVar[tuple[str, ...]] = TRAINING_COMMANDS
    ADVANCED_IN: ClassVar[tuple[str, ...]] = ALL_COMMANDS

    keep_empty_images: bool = key(
        True, "also train on images without annotations; False: skip them, as the old zoo did"
    )
    learn_difficult: bool = key(True, "VOC: also train on objects marked difficult; evaluation always ignores them")
    max_boxes: int = key(
        50,
        "ground-truth boxes per image after padding; an image with more enlarges the batch unless cut_boxes is set",
        minimum=1,
    )
    cut_boxes: bool = key(False, "drop (and count) boxes beyond max_boxes instead of enlarging the batch")


@dataclass(frozen=True)
class FormatKeys:
    """Annotation formats"""

    COMMANDS: ClassVar[tuple[str, ...]] = DATA_COMMANDS
    ADVANCED_IN: ClassVar[tuple[str, ...]] = ALL_COMMANDS

    txt_order: str = key(
        "xyxy", "coordinate order in txt annotations; the old RefineDet read yxyx", choices=("xyxy", "yxyx")
    )
    txt_first_class: int = key(0, "number of the first class in txt annotations", minimum=0, maximum=1)
    voc_first_pixel: int = key(
        1, "index of the leftmost pixel in VOC files: 1, or 0 as some tools write", minimum=0, maximum=1
    )


@dataclass(frozen=True)
class ReadingKeys:
    """Reading"""

    ADVANCED_IN: ClassVar[tuple[str, ...]] = ALL_COMMANDS

    num_parallel_workers: int = key(
        2,
        "worker processes that load batches; 0: the main process does",
        minimum=0,
        maximum=256,
        affects_training=False,
    )
    on_bad_box: str = key(
        "error", "a box without area or outside its image: stop, or skip the box", choices=("error", "skip")
    )
    on_bad_image: str = key(
        "error",
        "a missing or corrupt image: stop, or skip it (also in the score) and report it at the end of the epoch",
        choices=("error", "skip"),
    )
    data_timeout: float = key(
        120.0, "timeout in seconds for a batch from the worker processes", above=0, affects_training=False
    )


@dataclass(frozen=True)
class LimitKeys:
    """Limits"""

    ADVANCED_IN: ClassVar[tuple[str, ...]] = ALL_COMMANDS

    max_image_pixels: int = key(178_956_970, "reject images with more pixels (width * height)", minimum=1)
