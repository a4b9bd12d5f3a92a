"""Classification datasets as MindRecord or COCO files and back: a class is stored as a box around the whole image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from msdet.data.dataset import DetectionDataset, ReadReport, Sample
from msdet.data.formats.imagefolder import ImageFolder, check_same_classes
from msdet.data.formats.mindrecord.read import load_mindrecord, read_info
from msdet.data.images.decode import read_image_size
from msdet.errors import UserError


def to_detection_dataset(folder: ImageFolder) -> DetectionDataset:
    """A classification dataset as a detection dataset, with one box around each whole image.

    Raises:
        UserError: an image cannot be read.
    """
    samples = []
    for name, label in zip(folder.files, folder.labels.tolist(), strict=True):
        width, height = read_image_size(folder.root / name)
        boxes, flag = np.array([[0, 0, width, height]], np.float32), np.zeros(1, bool)
        labels = np.array([label], np.int32)
        samples.append(Sample(folder.root / name, name, width, height, boxes, labels, flag, flag))
    ids = list(range(1, len(folder.class_names) + 1))
    report = ReadReport(images=len(samples), boxes=len(samples))
    return DetectionDataset(samples, folder.class_names, ids, folder.root, folder.root, report, "imagefolder")


def read_image_folder_records(inner: Path, split: str, class_names: Sequence[str] = ()) -> ImageFolder:
    """Reads a split of MindRecord files that were created from one folder per class.

    Args:
        inner: folder of the split.
        split: its name.
        class_names: the classes in label order; empty: those stored in the files.

    Raises:
        UserError: the files are damaged, contain a detection dataset, or have other classes.
    """
    if read_info(inner, split).get("format") != "imagefolder":
        raise UserError(f"{inner} contains a detection dataset, not one class per image")
    raw, store = load_mindrecord(inner, split)
    names = [str(category.name) for category in sorted(raw.categories, key=lambda category: category.id)]
    wanted = list(class_names) or names
    check_same_classes(names, wanted, str(inner), "the configured classes")
    name_of = {category.id: str(category.name) for category in raw.categories}
    category_of = {entry.image_id: entry.category_id for entry in raw.annotations}
    label_of = {name: label for label, name in enumerate(wanted)}
    try:
        labels = [label_of[name_of[category_of[image.id]]] for image in raw.images]
    except KeyError as error:
        raise UserError(
            f"{raw.source} is damaged: an image has no class; create it again with msdet create_data"
        ) from error
    files = [image.file_name for image in raw.images]
    return ImageFolder(inner, wanted, files, np.array(labels, np.int32), store)
