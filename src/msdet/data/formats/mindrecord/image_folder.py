"""Pictures in a folder a class, as MindRecord or COCO files and back: a class is a box around the whole picture."""

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
    """The pictures of a folder as a data set of detectors, with one box each around the whole picture.

    Raises:
        UserError: a picture cannot be read.
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
    """The pictures of a split of MindRecord files that were made from a folder a class.

    Args:
        inner: folder of the split.
        split: its name.
        class_names: of the labels, in their order; empty: as when the files were made.

    Raises:
        UserError: the files are damaged, are those of a detector, or have other classes.
    """
    if read_info(inner, split).get("format") != "imagefolder":
        raise UserError(f"{inner} holds the boxes of a detector, not one class for each picture")
    content, store = load_mindrecord(inner, split)
    names = [str(category.name) for category in sorted(content.categories, key=lambda category: category.id)]
    wanted = list(class_names) or names
    check_same_classes(names, wanted, str(inner), "the classes that are asked for")
    name_of = {category.id: str(category.name) for category in content.categories}
    category_of = {entry.image_id: entry.category_id for entry in content.annotations}
    label_of = {name: label for label, name in enumerate(wanted)}
    try:
        labels = [label_of[name_of[category_of[image.id]]] for image in content.images]
    except KeyError as error:
        what = "a picture has no class: make it again with create_data"
        raise UserError(f"{content.source} is damaged: {what}") from error
    files = [image.file_name for image in content.images]
    return ImageFolder(inner, wanted, files, np.array(labels, np.int32), store)
