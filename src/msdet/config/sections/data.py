"""Keys of the dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from msdet.config.key import DATA_COMMANDS, EVERYWHERE, TRAINING_COMMANDS, key

# More classes than any dataset has: a larger number is a mistake, and each class costs outputs of the network.
MAX_CLASSES = 10_000


@dataclass(frozen=True)
class DataKeys:
    """Dataset"""

    COMMANDS: ClassVar[tuple[str, ...]] = DATA_COMMANDS

    data_dir: str = key("", "folder of the data set", path=True, affects_training=False)
    dataset: str = key(
        "auto",
        "format of the annotations: coco, voc, yolo, txt or mindrecord, or an old name (voc0712, voc0712plus, other, "
        "which is txt); auto: detected and logged",
        affects_training=False,
    )


@dataclass(frozen=True)
class DataFileKeys:
    """Files of the dataset"""

    COMMANDS: ClassVar[tuple[str, ...]] = DATA_COMMANDS
    DETAIL_IN: ClassVar[tuple[str, ...]] = EVERYWHERE

    layout: str = key(
        "auto",
        "names of COCO's files in data_dir",
        choices=("auto", "coco2017", "coco2014", "plain", "coco2017_instance", "coco2017_images", "roboflow"),
        affects_training=False,
    )
    train_image_dir: str = key(
        "", "folder of the training images; empty: found in data_dir", path=True, affects_training=False
    )
    train_ann_file: str = key(
        "", "annotation file of the training images; empty: found in data_dir", path=True, affects_training=False
    )
    val_image_dir: str = key(
        "", "folder of the validation images; empty: found in data_dir", path=True, affects_training=False
    )
    val_ann_file: str = key(
        "", "annotation file of the validation images; empty: found in data_dir", path=True, affects_training=False
    )
    test_image_dir: str = key(
        "", "folder of the images of test.py; empty: found in data_dir", path=True, affects_training=False
    )
    test_ann_file: str = key(
        "", "list of the images of test.py; empty: found in data_dir", path=True, affects_training=False
    )
    mindrecord_dir: str = key(
        "",
        "folder of MindRecord files: trained from if it holds some, made from data_dir if not; empty: none are used",
        path=True,
        affects_training=False,
    )


@dataclass(frozen=True)
class ClassKeys:
    """Classes"""

    DETAIL_IN: ClassVar[tuple[str, ...]] = ("eval", "test", "postprocess", "predict", "export")

    class_names: tuple[str, ...] = key((), "object classes in label order; empty: those of the annotation file")
    num_classes: int = key(
        0, "object classes, without background; 0: as many as there are names", minimum=0, maximum=MAX_CLASSES
    )
    label_map: str = key(
        "dense",
        "label of a category: its place among the classes, or its COCO id - 1",
        choices=("dense", "coco_id_minus_1"),
    )


@dataclass(frozen=True)
class SampleKeys:
    """Training samples"""

    COMMANDS: ClassVar[tuple[str, ...]] = TRAINING_COMMANDS
    DETAIL_IN: ClassVar[tuple[str, ...]] = EVERYWHERE

    keep_empty_images: bool = key(
        True, "train on images without any annotation too; False: leave them out, as the old zoo did"
    )
    learn_difficult: bool = key(True, "VOC: train on objects marked difficult too; a score never asks for them")
    max_boxes: int = key(
        50, "ground-truth boxes an image is padded to; more grow the batch unless cut_boxes", minimum=1
    )
    cut_boxes: bool = key(False, "drop (and count) the boxes of an image beyond max_boxes instead of growing the batch")


@dataclass(frozen=True)
class FormatKeys:
    """Annotation formats"""

    COMMANDS: ClassVar[tuple[str, ...]] = DATA_COMMANDS
    DETAIL_IN: ClassVar[tuple[str, ...]] = EVERYWHERE

    txt_order: str = key(
        "xyxy", "order of a box in lists of boxes; the old RefineDet read yxyx", choices=("xyxy", "yxyx")
    )
    txt_first_class: int = key(0, "number of the first class in lists of boxes", minimum=0, maximum=1)
    voc_first_pixel: int = key(
        1, "number of the leftmost pixel in VOC files: 1, or 0 as some programs write", minimum=0, maximum=1
    )


@dataclass(frozen=True)
class ReadingKeys:
    """Reading"""

    DETAIL_IN: ClassVar[tuple[str, ...]] = EVERYWHERE

    num_parallel_workers: int = key(2, "processes that make batches", minimum=0, maximum=256, affects_training=False)
    on_bad_box: str = key(
        "error", "a box of no area or outside its image: stop, or leave it out", choices=("error", "skip")
    )
    on_bad_image: str = key(
        "error",
        "an image that is missing or broken: stop, or go on without it, unscored, and tell at the end of the epoch",
        choices=("error", "skip"),
    )
    data_timeout: float = key(
        120.0, "seconds to wait for a batch of these processes before it is an error", above=0, affects_training=False
    )


@dataclass(frozen=True)
class LimitKeys:
    """Limits"""

    DETAIL_IN: ClassVar[tuple[str, ...]] = EVERYWHERE

    max_image_pixels: int = key(178_956_970, "refuse images of more pixels (width * height)", minimum=1)
